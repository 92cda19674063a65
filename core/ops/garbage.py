"""Garbage collection: remove objects to which no row refers, never what is being published.

Objects are listed first and rows are read afterwards, so what was published in between is seen.
What is left is deleted in short transactions that hold the row `garbage` and look once more;
an ingestion commits under the same row (`hold`), because it may rely on a shard that it did not
store itself. A backup pauses every removal while it copies (`paused`); what lost its row meanwhile
goes with a later collection.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, groupby, islice
from typing import TypeVar

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.domain import checkpoints, datasets, job_uploads, predictions
from core.domain.products import PLACES
from core.store.db import Database, db_now
from core.store.object_store import Entry, Storage
from core.store.resources import Resources
from core.store.tables import Chore, Dataset, DatasetShard, DatasetVersion, Job
from core.system.failpoints import hit
from topwork.errors import NotFound
from topwork.kinds import JobKind, JobState, Product

CHORE = "garbage"
BATCH = 200
# How long nothing is removed after a backup was last seen at work. One that was killed leaves no
# more behind than that; one object takes less to copy.
PAUSE, PROLONGED_EVERY = 900.0, 60.0
T = TypeVar("T")
log = structlog.get_logger()


def is_due(database: Database, every: float) -> bool:
    """Tell one process every so many seconds, across all of them, that it is to collect now."""
    turn = update(Chore).where(Chore.name == CHORE, Chore.began_at <= db_now() - every)
    with database.write() as session:
        taken = session.execute(turn.values(began_at=db_now()).returning(Chore.name))
        return taken.one_or_none() is not None


def hold(session: Session) -> None:
    """Keep every collection waiting until this transaction ends."""
    session.get_one(Chore, CHORE, with_for_update=True)


@contextlib.contextmanager
def paused(database: Database) -> Iterator[Callable[[], None]]:
    """Let no object be removed while the block runs; it calls what it gets after each object.

    A removal that has begun is waited for.
    """
    prolonged = time.monotonic()

    def pause(seconds: float) -> None:
        with database.write() as session:
            hold(session)
            until = db_now() + seconds
            session.execute(update(Chore).where(Chore.name == CHORE).values(paused_until=until))

    def prolong() -> None:
        nonlocal prolonged
        if time.monotonic() - prolonged > PROLONGED_EVERY:
            prolonged = time.monotonic()
            pause(PAUSE)

    pause(PAUSE)
    try:
        yield prolong
    finally:
        pause(0.0)


def collect(resources: Resources, grace: float) -> list[Entry]:
    """Remove orphans older than `grace` seconds and old drafts; return what was removed."""
    found = list(orphans(resources, grace))
    hit("garbage.before_delete")
    removed = []
    for batch in _batches(found):
        with resources.database.write() as session:
            gone = _remove(resources, session, [entry.key for entry in batch])
            removed += (part := [entry for entry in batch if entry.key in gone])
            count = {
                "objects": Chore.objects + len(part),
                "bytes": Chore.bytes + sum(entry.size for entry in part),
            }
            session.execute(update(Chore).where(Chore.name == CHORE).values(count))
    drafts = resources.storage.prune(time.time() - grace)
    if removed or drafts:
        size = sum(entry.size for entry in removed)
        log.info("garbage.collected", objects=len(removed), bytes=size, drafts=drafts)
    return removed


def discard(resources: Resources, keys: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
    """Remove at once those of these objects, and of those below prefixes, to which no row refers.

    Besides `collect`, nothing else removes what has once been published.
    """
    below = (key for prefix in prefixes for key in resources.storage.list(prefix))
    for batch in _batches(chain(keys, below)):
        with resources.database.write() as session:
            _remove(resources, session, batch)


def orphans(resources: Resources, grace: float) -> Iterator[Entry]:
    """Yield the objects older than `grace` seconds to which no row and no running job refers."""
    places = list(RULES)
    try:
        learn_shards(resources.database, resources.storage)
    except NotFound as error:
        log.warning("garbage.shards_unknown", error=str(error))
        places.remove("shards")
    before = time.time() - grace
    for place in places:
        stored = (e for e in resources.storage.entries(place) if e.stored_at <= before)
        for batch in _batches(stored):
            with resources.database.read() as session:
                kept = referred(session, [entry.key for entry in batch])
            yield from (entry for entry in batch if entry.key not in kept)


def learn_shards(database: Database, storage: Storage) -> None:
    """Record the shards of versions that were made before shards were recorded.

    Raises:
        NotFound: A manifest is missing, so nobody can say which shards it needs.
    """
    known = select(DatasetShard.dataset_id).where(
        DatasetShard.dataset_id == DatasetVersion.dataset_id,
        DatasetShard.number == DatasetVersion.number,
    )
    with database.read() as session:
        unknown = list(session.scalars(select(DatasetVersion).where(~known.exists())))
    for version in unknown:
        shards = shards_of(storage, version)
        with database.write() as session:
            row = session.get(DatasetVersion, (version.dataset_id, version.number))
            if row is not None:
                datasets.refer(session, row, shards)


def shards_of(storage: Storage, version: DatasetVersion) -> set[str]:
    """Return the sha256 of each shard that a version's manifest names."""
    return shards_in(storage.get_bytes(f"{version.prefix}/manifest.jsonl"))


def shards_in(manifest: bytes) -> set[str]:
    """Return the sha256 of each shard that the lines of a manifest name."""
    return {json.loads(line)["shard"] for line in manifest.splitlines()}


def _remove(resources: Resources, session: Session, keys: list[str]) -> set[str]:
    """Remove what no row refers to, and nothing in a pause; return the keys of what is gone."""
    hold(session)
    if session.scalar(select(Chore.paused_until > db_now()).where(Chore.name == CHORE)):
        return set()
    gone = set(keys) - referred(session, keys)
    resources.storage.delete_all(sorted(gone))
    return gone


def referred(session: Session, keys: list[str]) -> set[str]:
    """Return those of the keys to which a row or a running job refers."""
    kept: set[str] = set()
    for place, group in groupby(sorted(keys), key=lambda key: key.partition("/")[0]):
        kept |= RULES[place](session, list(group))
    return kept


def _published(product: Product, session: Session, keys: list[str]) -> set[str]:
    """Running jobs are read first: one that publishes in between has a version by then."""
    place, prefixes = PLACES[product], {key: key.rpartition("/")[0] for key in keys}
    if place.version is None:
        return predictions.stored(session, keys)
    makers = Job.kind.in_(JobKind.making(product))
    running = session.scalars(select(Job).where(Job.state == JobState.RUNNING, makers))
    kept = {place.prefix(job) for job in running}
    named = place.version.prefix.in_(prefixes.values())
    kept.update(session.scalars(select(place.version.prefix).where(named)))
    return {key for key, prefix in prefixes.items() if prefix in kept}


def _shards(session: Session, keys: list[str]) -> set[str]:
    hashes = {key.removeprefix("shards/").removesuffix(".tar") for key in keys}
    used = select(DatasetShard.shard).where(DatasetShard.shard.in_(hashes))
    return {f"shards/{shard}.tar" for shard in session.scalars(used)}


def _uploads(session: Session, keys: list[str]) -> set[str]:
    stored = session.scalars(select(Dataset.upload).where(Dataset.upload.in_(keys)))
    return {key for key in stored if key is not None} | job_uploads.keys(session, keys)


def _logs(session: Session, keys: list[str]) -> set[str]:
    names = {key.removeprefix("logs/").removesuffix(".txt") for key in keys}
    return {f"logs/{job}.txt" for job in session.scalars(select(Job.id).where(Job.id.in_(names)))}


RULES: dict[str, Callable[[Session, list[str]], set[str]]] = {
    **{place.folder: partial(_published, product) for product, place in PLACES.items()},
    "shards": _shards,
    "uploads": _uploads,
    "logs": _logs,
    checkpoints.FOLDER: checkpoints.kept,
}


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while batch := list(islice(source, BATCH)):
        yield batch
