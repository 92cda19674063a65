"""Integrity check: what must be true of a service, whatever was killed on the way there.

`check` only reads. It may run beside a live service: rows are read in one snapshot, and what looks
missing or left over is looked at once more before it is told.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain import predictions
from core.domain.job_states import FILLING, MOVES
from core.ops import garbage, local_cleanup
from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.tables import Dataset, DatasetVersion, Job, JobEvent, ModelExport, ModelVersion
from core.system.atomic_files import sha256
from core.system.command_names import command
from topwork.errors import NotFound
from topwork.kinds import STORED, TERMINAL, EventKind, JobKind, JobState, Product

DAY = 86400.0
BUG = "This is a defect of Topwork: please report it together with {events}."
RESTORE = "Restore the object from a backup, or delete what refers to it and make it anew."
SOON = "Nothing: a worker removes it with its next collection (TOPWORK_GC_SECONDS)."
Kind = Literal["job", "model", "export", "predictions", "dataset", "garbage", "leftover"]
KINDS: dict[Kind, str] = {
    "job": BUG,
    "model": RESTORE,
    "export": RESTORE,
    "predictions": RESTORE,
    "dataset": RESTORE,
    "garbage": SOON,
    "leftover": SOON,
}


@dataclass(frozen=True)
class Violation:
    """Something that must not be: what kind of thing it is about, which one, and what is wrong."""

    kind: Kind
    subject: str
    found: str

    @property
    def broken(self) -> bool:
        """Whether something is lost or wrong, not only left over."""
        return self.kind not in ("garbage", "leftover")

    @property
    def fix(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].format(events=command("jobs", "events", "JOB"))

    def to_dict(self) -> dict[str, str]:
        """Return the violation as JSON."""
        return {**asdict(self), "fix": self.fix}

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.subject}: {self.found}"


def check(resources: Resources, grace: float = DAY) -> Iterator[Violation]:
    """Yield every violation of rows, artefacts, answers, datasets and folders.

    Args:
        resources: The service's handles.
        grace: Seconds for which something unreferenced may lie before it counts as left over.
    """
    yield from histories(resources)
    storage = resources.storage
    with resources.database.read() as session:
        versions = list(session.scalars(select(ModelVersion)))
        manifests = list(session.scalars(select(DatasetVersion)))
        exports = list(session.scalars(select(ModelExport)))
        answered = predictions.answered(session)
    for version in versions:
        found = list(_artefact(storage, version))
        if found and _stays(resources, ModelVersion, version.id):
            yield from (Violation("model", f"{version.name}@{version.number}", it) for it in found)
    for export in exports:
        found = list(_stored(storage, export))
        if found and _stays(resources, ModelExport, (export.version_id, export.format)):
            name = f"{export.version_id} as {export.format}"
            yield from (Violation("export", name, it) for it in found)
    for job in answered:
        files = predictions.files(job).items()
        found = [
            it
            for name, facts in files
            for it in _file(storage, f"{predictions.prefix(job)}/{name}", facts["sha256"])
        ]
        if found and _answers_stay(resources, job):
            yield from (Violation("predictions", job.id, it) for it in found)
    good: set[str] = set()
    for manifest in manifests:
        key = (manifest.dataset_id, manifest.number)
        found = list(_manifest(storage, manifest, good))
        if found and _stays(resources, DatasetVersion, key):
            name = f"{manifest.dataset_id}@{manifest.number}"
            yield from (Violation("dataset", name, it) for it in found)
    yield from _uploads(resources)
    yield from remains(resources, grace)


def histories(resources: Resources) -> Iterator[Violation]:
    """Yield what is wrong with jobs: states, events, fences, and what they have published."""
    with resources.database.snapshot() as session:
        for job in session.scalars(select(Job).order_by(Job.id)):
            told = select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.seq)
            for found in _history(job, list(session.scalars(told))):
                yield Violation("job", job.id, found)
            for found in _outcome(session, job):
                yield Violation("job", job.id, found)


def remains(resources: Resources, grace: float) -> Iterator[Violation]:
    """Yield objects that no row refers to, and folders and files that nobody needs."""
    known = {entry.key for entry in garbage.orphans(resources, grace)}
    # Whoever was publishing when the first look fell between object and row has done so by now.
    for entry in garbage.orphans(resources, grace) if known else ():
        if entry.key in known:
            yield Violation("garbage", entry.key, "no row refers to this object")
    for draft in resources.storage.drafts(time.time() - grace):
        yield Violation("leftover", str(draft), "a writer was killed and left this")
    for path in local_cleanup.found(resources, grace):
        yield Violation("leftover", str(path), "no job and no dataset needs this folder")


def _history(job: Job, events: list[JobEvent]) -> Iterator[str]:
    if job.state not in STORED:
        yield f"it is {job.state}, which is no state"
    if [event.seq for event in events] != list(range(1, job.last_seq + 1)):
        yield "its events have gaps"
    states = [event.data["state"] for event in events if event.kind == EventKind.STATE]
    for before, after in itertools.pairwise(states):
        if after not in MOVES[before]:
            yield f"it went from {before} to {after}"
    if states[:1] not in ([JobState.QUEUED], [JobState.WAITING]):
        yield f"its history begins {states[:1]}"
    if states and states[-1] != job.state:
        yield f"it is {job.state} but its history ends {states[-1]}"
    fences = [event.fence for event in events]
    if fences != sorted(fences) or (fences and fences[-1] > job.fence):
        yield "it was written to by an attempt that had lost it"
    claims = [event.fence for event in events if event.data.get("state") == JobState.RUNNING]
    if claims != list(range(1, job.fence + 1)):
        yield f"its claims have the fences {claims}, and it is at {job.fence}"
    epochs = [event.data["epoch"] for event in events if event.kind == EventKind.EPOCH]
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"it tells its epochs as {epochs}"


def _outcome(session: Session, job: Job) -> Iterator[str]:
    published = len(
        session.scalars(select(ModelVersion.id).where(ModelVersion.job_id == job.id)).all()
    )
    if job.kind in JobKind.making(Product.MODEL_VERSION):
        named = (job.result or {}).get("model_version")
        deleted = named is not None and session.get(ModelVersion, named) is None
        expected = int(job.state == JobState.SUCCEEDED and not deleted)
        if published != expected:
            yield f"it is {job.state} and has {published} model versions"
    if (job.finished_at is not None) != (job.state in TERMINAL):
        yield f"it is {job.state} and finished at {job.finished_at}"
    if (job.worker is not None) != (job.state == JobState.RUNNING):
        yield f"it is {job.state} and its worker is {job.worker}"
    if (job.lacks or job.not_before) and job.state != "queued":
        yield f"it is {job.state} and waits for {job.lacks or 'a time'}"
    if job.not_before is not None and not (job.lacks and job.reason):
        yield "it waits until a time and does not say what for"
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    if job.kind in FILLING and dataset is not None:
        number = select(DatasetVersion.number).where(DatasetVersion.dataset_id == dataset.id)
        has_one = session.scalars(number.limit(1)).first() is not None
        if has_one != (job.state == JobState.SUCCEEDED):
            yield f"it is {job.state}, which its dataset's versions contradict"


def _stored(storage: Storage, made: ModelVersion | ModelExport) -> Iterator[str]:
    try:
        listed = json.loads(storage.get_bytes(f"{made.prefix}/manifest.json"))
    except NotFound:
        yield "its manifest.json is missing"
    except ValueError:
        yield "its manifest.json is damaged"
    else:
        if listed != made.files:
            yield "its row and its manifest.json disagree"
    for name, facts in made.files.items():
        yield from _file(storage, f"{made.prefix}/{name}", facts["sha256"])


def _artefact(storage: Storage, version: ModelVersion) -> Iterator[str]:
    yield from _stored(storage, version)
    if version.files.get("weights.safetensors", {}).get("sha256") != version.digest:
        yield "its digest is not that of its weights"


def _manifest(storage: Storage, version: DatasetVersion, good: set[str]) -> Iterator[str]:
    """Look at manifest and shards; `good` remembers shards that other versions share."""
    key = f"{version.prefix}/manifest.jsonl"
    missing = list(_file(storage, key, version.digest))
    yield from missing
    if missing:
        return
    for shard in sorted(garbage.shards_of(storage, version) - good):
        wrong = list(_file(storage, f"shards/{shard}.tar", shard))
        yield from wrong
        if not wrong:
            good.add(shard)


def _file(storage: Storage, key: str, digest: str) -> Iterator[str]:
    try:
        if _hash(storage, key) != digest:
            yield f"{key} is damaged: its content does not match its hash"
    except NotFound:
        yield f"{key} is missing"


def _hash(storage: Storage, key: str) -> str:
    path = storage.local_path(key)
    if path is not None and path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for piece in storage.stream(key):
        digest.update(piece)
    return digest.hexdigest()


def _uploads(resources: Resources) -> Iterator[Violation]:
    """Yield datasets whose archive is still to be read and is gone."""
    with resources.database.read() as session:
        waiting = list(session.scalars(select(Dataset).where(Dataset.upload.is_not(None))))
    for dataset in waiting:
        if not resources.storage.exists(str(dataset.upload)):
            with resources.database.read() as session:
                now = session.get(Dataset, dataset.id)
            if now is not None and now.upload is not None:
                yield Violation("dataset", dataset.id, "its uploaded archive is missing")


def _answers_stay(resources: Resources, job: Job) -> bool:
    """Tell whether a job still has the answers that it had: another attempt makes its own."""
    with resources.database.read() as session:
        now = session.get(Job, job.id)
        return now is not None and now.fence == job.fence


def _stays(
    resources: Resources, table: type[ModelVersion | ModelExport | DatasetVersion], key: object
) -> bool:
    """Tell whether a row is still there: what was just deleted may miss its objects."""
    with resources.database.read() as session:
        return session.get(table, key) is not None
