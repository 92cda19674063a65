"""Operations of users on datasets: create, read, publish a version, rename, delete."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Select, String, cast, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from core.ingest.manifest import with_reasons
from core.store.db import db_now
from core.store.pagination import page_of
from core.store.row_access import EVERYONE
from core.store.tables import Dataset, DatasetShard, DatasetVersion, Job, ModelVersion
from topwork.errors import ClassesLost, DatasetInUse, DatasetNotFound, DatasetNotReady
from topwork.kinds import TERMINAL, DatasetState, JobKind, Product

HOUR = 3600.0


def create(session: Session, *, name: str, upload: str | None, metadata: dict[str, Any]) -> Dataset:
    """Add a dataset that is filled from a stored upload."""
    dataset = Dataset(name=name, upload=upload, user_metadata=metadata)
    session.add(dataset)
    session.flush()
    return dataset


def get(session: Session, dataset_id: str, *, lock: bool = False) -> Dataset:
    """Return a dataset or raise DatasetNotFound; `lock` holds its row until the commit."""
    dataset = session.get(Dataset, dataset_id, with_for_update=lock, populate_existing=lock)
    if dataset is None:
        raise DatasetNotFound(f"there is no dataset {dataset_id}", param="dataset")
    return dataset


def version(session: Session, reference: str) -> DatasetVersion:
    """Return the version that `ds_...@2` names, or the newest one of `ds_...`.

    Raises:
        DatasetNotFound: There is no such dataset or version.
        DatasetNotReady: The dataset has no version yet, or never will.
    """
    dataset_id, _, number = reference.partition("@")
    dataset = get(session, dataset_id)
    wanted = _newest_first(dataset_id).limit(1)
    if number:  # Compared as it is spelled: `01` names none.
        wanted = wanted.where(cast(DatasetVersion.number, String) == number)
    if found := session.scalars(wanted).first():
        return found
    if newest(session, dataset_id) is None:
        raise DatasetNotReady(f"the dataset {dataset_id} is {dataset.state}", param="dataset")
    raise DatasetNotFound(f"the dataset {dataset_id} has no version {number}", param="dataset")


def newest(session: Session, dataset_id: str) -> DatasetVersion | None:
    """Return the newest version of a dataset, if it has one."""
    return session.scalars(_newest_first(dataset_id).limit(1)).first()


def versions(session: Session, dataset_id: str) -> list[DatasetVersion]:
    """Return all versions of a dataset, newest first."""
    return list(session.scalars(_newest_first(dataset_id)))


def check_classes(version: DatasetVersion, config: Mapping[str, Any]) -> None:
    """Refuse a job on a version that lacks classes of its upload, unless its request allows it.

    Raises:
        ClassesLost: With their names, and the reasons for their files.
    """
    lost = version.summary.get("lost_classes")
    if lost and not config.get("allow_lost_classes"):
        message = f"no image of these classes can be used: {with_reasons(lost)}"
        raise ClassesLost(message, param="allow_lost_classes")


def version_for(session: Session, job: Job) -> DatasetVersion:
    """Return the version on which a job works: that which it names, or the newest.

    Raises:
        DatasetNotFound: There is no such version.
        ClassesLost: As `check_classes` says, where a model is to learn the classes.
    """
    number = f"@{job.dataset_version}" if job.dataset_version else ""
    found = version(session, f"{job.dataset_id}{number}")
    if job.kind not in JobKind.making(Product.PREDICTIONS):
        check_classes(found, job.config)
    return found


def _newest_first(dataset_id: str) -> Select[DatasetVersion]:
    wanted = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset_id)
    return wanted.order_by(DatasetVersion.number.desc())


def publish(
    session: Session,
    dataset: Dataset,
    *,
    number: int,
    digest: str,
    prefix: str,
    summary: dict[str, Any],
    shards: Iterable[str] = (),
) -> DatasetVersion:
    """Add an immutable version; the commit around it is the publication.

    Args:
        session: A writing session.
        dataset: Whose version it is.
        number: Its number.
        digest: sha256 of its manifest.
        prefix: Where its files are stored.
        summary: The content of `dataset.json`.
        shards: sha256 of each shard in which its images are; left out, its manifest tells later.
    """
    row = DatasetVersion(
        dataset_id=dataset.id, number=number, digest=digest, prefix=prefix, summary=summary
    )
    session.add(row)
    session.flush()
    refer(session, row, shards)
    held = get(session, dataset.id, lock=True)
    held.state, held.error = DatasetState.READY, None
    session.flush()
    return row


def refer(session: Session, version: DatasetVersion, shards: Iterable[str]) -> None:
    """Record in which shards the images of a version are, so that these are kept."""
    for shard in set(shards):
        key = {"dataset_id": version.dataset_id, "number": version.number}
        session.add(DatasetShard(shard=shard, **key))


def forget_unanswered(session: Session, hours: float) -> int:
    """Let go of the uploads that could not be read so many hours ago; return how many.

    Garbage collection removes their bytes.
    """
    since = db_now() - hours * HOUR
    lately = select(Job.id).where(Job.id == Dataset.job_id, Job.finished_at > since)
    kept = (Dataset.state == DatasetState.FAILED, Dataset.upload.is_not(None))
    over = update(Dataset).where(*kept, ~lately.exists()).values(upload=None)
    return int(session.execute(over).rowcount)  # type: ignore[attr-defined] # It counts rows.


def page(
    session: Session,
    *,
    limit: int = 20,
    after: str | None = None,
    order: str = "desc",
    state: str | None = None,
) -> tuple[list[Dataset], bool]:
    """Return up to `limit` datasets beyond the cursor and whether there are more."""
    wanted = select(Dataset)
    if state is not None:
        wanted = wanted.where(Dataset.state == state)
    return page_of(session, wanted, Dataset.id, limit=limit, after=after, order=order)


def delete(session: Session, dataset_id: str) -> list[str]:
    """Forget a dataset and its versions; return the keys of upload and shards it referred to.

    Shards may be another dataset's, too: `core.ops.garbage.discard` keeps those.

    Raises:
        DatasetInUse: A job that has not ended, or a model that was trained on it, needs it.
    """
    dataset = get(session, dataset_id, lock=True)
    # An admin's jobs may use it, too.
    on_it = select(Job).where(Job.dataset_id == dataset_id).execution_options(**EVERYONE)
    active = session.scalars(on_it.where(Job.state.not_in(TERMINAL)).limit(1)).first()
    if active is not None:
        raise DatasetInUse(f"the job {active.id} still needs this dataset")
    # The card remembers the dataset when the job that trained the model has been deleted.
    named = ModelVersion.card["dataset"]["id"].as_string() == dataset_id
    trained = select(ModelVersion).outerjoin(Job, ModelVersion.job_id == Job.id)
    trained = trained.where(or_(named, Job.dataset_id == dataset_id))
    model = session.scalars(trained.limit(1), execution_options=EVERYONE).first()
    if model is not None:
        raise DatasetInUse(f"the model {model.name}@{model.number} was trained on this dataset")
    for job in session.scalars(on_it):
        job.dataset_id = None
    session.flush()
    used = select(DatasetShard.shard).where(DatasetShard.dataset_id == dataset_id).distinct()
    keys = [f"shards/{shard}.tar" for shard in session.scalars(used)]
    if dataset.upload is not None:
        keys.append(dataset.upload)
    session.execute(sql_delete(DatasetShard).where(DatasetShard.dataset_id == dataset_id))
    session.execute(sql_delete(DatasetVersion).where(DatasetVersion.dataset_id == dataset_id))
    session.delete(dataset)
    return keys
