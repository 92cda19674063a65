"""New versions of a dataset: a manifest over shards that are already stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.api.state import Service
from core.domain import datasets, usage
from core.imaging.findings import FINDINGS
from core.ingest import lost_classes, manifest
from core.ingest.split import Ratios
from core.store.db import is_unsure
from core.store.row_access import Caller
from core.store.tables import DatasetVersion
from core.system import disk
from core.system.ids import new_id
from topwork import types
from topwork.errors import TopworkError
from topwork.kinds import Split

HELD_OUT = (Split.VAL, Split.TEST)  # Splits that are drawn where a version is split anew.


@dataclass
class Revision:
    """A manifest that is stored but not yet a version; it is forgotten unless it becomes one."""

    dataset_id: str
    prefix: str
    summary: dict[str, Any]
    shards: frozenset[str]
    kept: bool = False


@dataclass(frozen=True)
class Draft:
    """What was asked for, as it can be made or why it cannot."""

    fingerprint: str
    outcome: Revision | TopworkError


@contextmanager
def drafted(
    service: Service, caller: Caller, dataset_id: str, wanted: types.DatasetVersionRequest
) -> Iterator[Draft]:
    """Store the manifest of a version that differs from its base as asked.

    What stands in the way is yielded, not raised: the first request with the same key may have made
    the very version from which a repeated one cannot leave the same images out once more, and whose
    answer it is to get. It can be DatasetNotFound, DatasetNotReady (there is no such version to
    start from), InvalidField, DatasetInvalid or TooFewClasses (nothing trainable would be left),
    QuotaExceeded or DiskFull (there is no room for another manifest).
    """
    fingerprint = wanted.model_dump_json()
    try:
        draft, files = _revise(service, caller, dataset_id, wanted)
    except TopworkError as error:
        yield Draft(fingerprint, error)
        return
    storage = service.resources.storage
    try:
        for name, content in files.items():
            storage.put_bytes(f"{draft.prefix}/{name}", content)
        yield Draft(fingerprint, draft)
    except BaseException as error:
        draft.kept = draft.kept and is_unsure(error)  # Or else garbage collection has its day.
        raise
    finally:
        if not draft.kept:
            storage.delete_prefix(draft.prefix)


def _revise(
    service: Service, caller: Caller, dataset_id: str, wanted: types.DatasetVersionRequest
) -> tuple[Revision, dict[str, bytes]]:
    """Return the revision and its files."""
    reference = f"{dataset_id}@{wanted.base}" if wanted.base else dataset_id
    with service.resources.database.read(caller) as session:
        base = datasets.version(session, reference)
    split = wanted.split
    lines, near, missed = manifest.revise(
        service.manifests.of(base).lines,
        exclude=wanted.exclude,
        relabel=wanted.relabel,
        confirm=wanted.confirm,
        split=Ratios(**split.model_dump()) if split else None,
    )
    findings = manifest.examine(lines, FINDINGS | manifest.IS_CONFIRMED, near, missed)
    kept = {line["class"] for line in lines}
    lost = base.summary.get("lost_classes", {})
    lost = {name: reasons for name, reasons in lost.items() if name not in kept}
    findings = lost_classes.finding(lost) + findings
    answers = base.summary.get("answers")
    drawn = HELD_OUT if split else base.summary.get("drawn", ())
    summary = manifest.summarise(lines, findings, drawn=drawn, lost=lost, answers=answers)
    shards = frozenset(line["shard"] for line in lines)
    files = {
        "manifest.jsonl": manifest.encode(lines),
        "report.jsonl": manifest.report(findings),
        "dataset.json": manifest.json_line(summary).encode(),
    }
    _check_room(service, caller, sum(len(content) for content in files.values()))
    return Revision(dataset_id, f"datasets/{dataset_id}/{new_id('rev')}", summary, shards), files


def _check_room(service: Service, caller: Caller, coming: int) -> None:
    """Hold what is to be stored against the quota and the disk, as an upload is."""
    settings = service.resources.settings
    with service.resources.database.read(caller) as session:
        usage.check_bytes(session, settings, caller.owner, coming)
    disk.require(settings.data_dir, coming, settings.disk_reserve_bytes)


def publish(session: Session, outcome: Revision | TopworkError) -> DatasetVersion:
    """Make a revision the newest version, in the caller's transaction, or say why it cannot be."""
    if isinstance(outcome, TopworkError):
        raise outcome
    draft = outcome
    dataset = datasets.get(session, draft.dataset_id, lock=True)
    number = datasets.version(session, dataset.id).number + 1
    draft.kept = True
    return datasets.publish(
        session,
        dataset,
        number=number,
        digest=draft.summary["digest"],
        prefix=draft.prefix,
        summary=draft.summary,
        shards=draft.shards,
    )
