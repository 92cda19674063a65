"""Promotions: evidence is weighed before the write, and holds for the versions it was read from."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path
from sqlalchemy.orm import Session

from app.api import comparing
from app.api.deps import ServiceHere, Text, Who
from core.domain import aliases, gate
from core.store.tables import AliasMove
from topwork import types
from topwork.errors import GateFailed, PreconditionFailed
from topwork.kinds import MoveKind
from topwork.types.models import ALIAS

AliasName = Annotated[str, Path(pattern=ALIAS)]


@dataclass(frozen=True)
class Weighed:
    """The evidence for a promotion, and where the alias pointed while it was read."""

    pointed_to: int | None
    evidence: types.Evidence


def _weighed(
    name: Text, alias: AliasName, body: types.PromotionRequest, service: ServiceHere, who: Who
) -> Weighed:
    with service.resources.database.read(who) as session:
        old = aliases.number_of(session, name, alias)
    pair = str(body.version if old is None else old), str(body.version)
    found = comparing.compare(service, who, name, *pair, body.gate.split)
    return Weighed(old, gate.judge(body.gate, found))


TheEvidence = Annotated[Weighed, Depends(_weighed, max_concurrency=comparing.COMPARERS)]


def promote(session: Session, name: str, alias: str, version: int, weighed: Weighed) -> AliasMove:
    """Move an alias to a version that has passed the gate; the caller holds the model's row.

    Raises:
        PreconditionFailed: The alias was moved while the evidence was weighed.
        GateFailed: The version has not shown what it had to; nothing has changed.
    """
    if aliases.number_of(session, name, alias) != weighed.pointed_to:
        raise PreconditionFailed(f"{name}@{alias} was moved meanwhile", hint="Ask again.")
    failed = [check for check in weighed.evidence.checks if not check.passed]
    if failed:
        raise _refusal(f"{name}@{version}", weighed.evidence, failed)
    return aliases.point(
        session,
        name=name,
        alias=alias,
        number=version,
        kind=MoveKind.PROMOTION,
        evidence=weighed.evidence,
    )


def _refusal(reference: str, evidence: types.Evidence, failed: list[types.GateCheck]) -> GateFailed:
    words = [_words(check) for check in failed]
    told = f"{reference} on {evidence.images} images of {evidence.split}: {'; '.join(words)}"
    refusal = GateFailed(told, param=f"gate.{failed[0].rule}")
    refusal.errors = [
        {"param": f"gate.{check.rule}", "code": GateFailed.code, "message": said, "hint": None}
        for check, said in zip(failed, words, strict=True)
    ]
    return refusal


def _words(check: types.GateCheck) -> str:
    of_class = f" of {check.class_name!r}" if check.class_name else ""
    found = "is not measured" if check.value is None else f"is {check.value:.3g}"
    return f"{check.rule}{of_class} {found}, the limit is {check.limit:.3g}"
