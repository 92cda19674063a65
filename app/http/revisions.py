"""New versions of a dataset: a manifest over shards that are already stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.schemas.datasets import RevisionRequest
from app.service import Service
from core import datasets
from core.ids import new_id
from core.ingest import manifest
from core.ingest.split import Ratios
from core.owners import Caller
from core.tables import DatasetVersion


@dataclass
class Revision:
    """A manifest that is stored but not yet a version; it is forgotten unless it becomes one."""

    dataset_id: str
    prefix: str
    summary: dict[str, Any]
    fingerprint: str
    shards: frozenset[str]
    kept: bool = False


@contextmanager
def drafted(
    service: Service, caller: Caller, dataset_id: str, wanted: RevisionRequest
) -> Iterator[Revision]:
    """Store the manifest of a version that differs from its base as asked.

    Raises:
        DatasetNotFound, DatasetNotReady: There is no such version to start from.
        InvalidField, DatasetInvalid, TooFewClasses: Nothing trainable would be left.
    """
    reference = f"{dataset_id}@{wanted.base}" if wanted.base else dataset_id
    with service.resources.database.read(caller) as session:
        base = datasets.version(session, reference)
    split = wanted.split
    lines = manifest.revise(
        service.manifests.of(base).lines,
        exclude=wanted.exclude,
        relabel=wanted.relabel,
        split=Ratios(split.val, split.test, split.seed) if split else None,
    )
    from core.images import FINDINGS  # noqa: PLC0415 - keeps Pillow out of the api's start.

    findings = manifest.examine(lines, FINDINGS)
    summary = manifest.summarise(lines, findings)
    prefix = f"datasets/{dataset_id}/{new_id('rev')}"
    fingerprint = wanted.model_dump_json()
    shards = frozenset(line["shard"] for line in lines)
    draft = Revision(dataset_id, prefix, summary, fingerprint, shards)
    storage = service.resources.storage
    try:
        storage.put_bytes(f"{prefix}/manifest.jsonl", manifest.encode(lines))
        storage.put_bytes(f"{prefix}/report.jsonl", manifest.report(findings))
        storage.put_bytes(f"{prefix}/dataset.json", manifest.json_line(summary).encode())
        yield draft
    except BaseException:
        draft.kept = False
        raise
    finally:
        if not draft.kept:
            storage.delete_prefix(prefix)


def publish(session: Session, draft: Revision) -> DatasetVersion:
    """Make a draft the newest version, in the caller's transaction."""
    dataset = datasets.get(session, draft.dataset_id, lock=True)
    number = datasets.versions(session, dataset.id)[0].number + 1
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
