"""New versions of a dataset: a manifest over shards that are already stored."""

from sqlalchemy.orm import Session

from app.schemas.datasets import RevisionRequest
from app.service import Service
from core import datasets, manifest
from core.ids import new_id
from core.split import Ratios
from core.tables import DatasetVersion


def create(
    session: Session, service: Service, dataset_id: str, wanted: RevisionRequest
) -> DatasetVersion:
    """Publish a version that differs from its base as asked, in the caller's transaction.

    Raises:
        DatasetNotFound, DatasetNotReady: There is no such version to start from.
        InvalidField, DatasetInvalid, TooFewClasses: Nothing trainable would be left.
    """
    reference = f"{dataset_id}@{wanted.base}" if wanted.base else dataset_id
    base = datasets.version(session, reference)
    split = wanted.split
    lines = manifest.revise(
        service.manifests.of(base).lines,
        exclude=wanted.exclude,
        relabel=wanted.relabel,
        split=Ratios(split.val, split.test, split.seed) if split else None,
    )
    # The class list is needed only where images are looked at; the words need no decoder.
    from core.images import FINDINGS  # noqa: PLC0415 - keeps Pillow out of the api's start.

    findings = manifest.examine(lines, FINDINGS)
    summary = manifest.summarise(lines, findings)
    prefix = f"datasets/{dataset_id}/{new_id('rev').replace('_', '-')}"
    storage = service.resources.storage
    storage.put_bytes(f"{prefix}/manifest.jsonl", manifest.encode(lines))
    storage.put_bytes(f"{prefix}/report.jsonl", manifest.report(findings))
    storage.put_bytes(f"{prefix}/dataset.json", manifest.json_line(summary).encode())
    dataset = datasets.get(session, dataset_id, lock=True)
    number = datasets.versions(session, dataset_id)[0].number + 1
    return datasets.publish(
        session, dataset, number=number, digest=summary["digest"], prefix=prefix, summary=summary
    )
