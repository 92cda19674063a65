"""T15: the n-th call to storage, disk or database fails, n = 1, 2, 3 ... until all passes.

A commit fails before it, and after it: what was committed stays, and its answer is lost.
"""

import contextlib
import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, PoolProxiedConnection, event
from sqlalchemy.exc import OperationalError

from core.domain import leases
from core.ops import garbage
from core.store.object_store import Storage, StorageUnavailable
from core.store.resources import Resources
from core.store.tables import Job
from models.training import checkpoint
from tests import content
from tests.chaos.conftest import Tell
from tests.claims import claim_best
from tests.invariants import broken_after_tidying
from worker import outcomes
from worker.kinds import finetune, ingest

pytestmark = pytest.mark.chaos
VERBS = ("put_bytes", "put_file", "exists", "delete", "delete_all", "get_bytes", "list")
MOST = 300


class Faults:
    """Counts calls and lets one of them fail; a call that fails may have had its effect or not."""

    def __init__(self) -> None:
        self.left = 0
        self.after = False
        self.lost_commits: set[bool] = set()  # Whether it had its effect, of each that failed.

    def due(self) -> bool:
        self.left -= 1
        return self.left == 0

    @contextlib.contextmanager
    def call(self, error: Exception) -> Iterator[None]:
        due = self.due()
        if due and not self.after:
            raise error
        yield
        if due:
            raise error


@pytest.fixture
def faults(anywhere: Resources, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """Faults at each verb of the storage, each statement and each commit of the database."""
    planned = Faults()
    for verb in VERBS:
        whole: Callable[..., object] = getattr(Storage, verb)

        def failing(
            *args: object, whole: Callable[..., object] = whole, **kwargs: object
        ) -> object:
            with planned.call(StorageUnavailable("told to")):
                return whole(*args, **kwargs)

        monkeypatch.setattr(Storage, verb, failing)

    def statement(*_args: object) -> None:
        if planned.due():
            raise OperationalError("told to", {}, Exception("told to"))

    engine: Engine = anywhere.database.engine
    commit = engine.dialect.do_commit

    def failing_commit(connection: PoolProxiedConnection) -> None:
        try:
            with planned.call(OperationalError("told to", {}, Exception("told to"))):
                commit(connection)
        except OperationalError:
            planned.lost_commits.add(planned.after)
            raise

    monkeypatch.setattr(engine.dialect, "do_commit", failing_commit)
    event.listen(engine, "before_cursor_execute", statement)
    yield planned
    event.remove(engine, "before_cursor_execute", statement)


def until_it_passes(faults: Faults, work: Callable[[], None], settle: Callable[[], None]) -> int:
    """Fail the first call, then the second ..., each before and after its effect."""
    for number in range(1, MOST):
        for after in (False, True):
            faults.left, faults.after = number, after
            try:
                work()
            except (StorageUnavailable, OperationalError):
                pass
            else:
                if faults.left > 0:
                    faults.left = 0
                    return number
            faults.left = 0
            settle()
    pytest.fail(f"it does not pass within {MOST} calls")


def hand_back(resources: Resources, job: Job) -> Job:
    """Settle a failed attempt as the worker would, and claim the job again."""
    with resources.database.write() as session, contextlib.suppress(leases.LostLease):
        away = StorageUnavailable("told to")
        outcomes.write(session, job, away, resources.settings, cancelled=False)
    with resources.database.write() as session:
        again = claim_best(session, "box:1:aa", 60.0)
    with resources.database.read() as session:
        return again or session.get_one(Job, job.id)


def test_a_claim(anywhere: Resources, faults: Faults, tell: Tell) -> None:
    claimed = content.claimed(anywhere, kind="finetune", config={"name": "pets"})

    def work() -> None:
        with anywhere.database.write() as session:
            assert claim_best(session, "box:1:aa", 60.0) is not None

    def settle() -> None:
        with anywhere.database.write() as session:
            session.expire_on_commit = False
            job = session.get_one(Job, claimed.id)
            if job.state == "running":
                leases.release(session, job.id, job.fence, "told to")
        assert broken_after_tidying(anywhere) == []

    settle()
    calls = until_it_passes(faults, work, settle)
    tell(f"T15 a claim: each of {calls - 1} calls failed, before and after its effect")
    assert calls > 3
    assert faults.lost_commits == {False, True}


@pytest.mark.parametrize("kind", ["ingest", "finetune"])
def test_a_publication(anywhere: Resources, faults: Faults, kind: str, tell: Tell) -> None:
    dataset = content.a_dataset(anywhere, b"one")
    number = itertools.count()

    def begin() -> tuple[Job, Path]:
        """Return a job whose result is there, and of which nothing is stored yet."""
        if kind == "ingest":
            return content.ingesting(anywhere, b"one", str(next(number)).encode())
        return content.training(anywhere, dataset)

    current, folder = begin()
    publish = ingest.publish if kind == "ingest" else finetune.publish

    def work() -> None:
        publish(anywhere, current, folder, lambda: None)

    def settle() -> None:
        nonlocal current, folder
        current = hand_back(anywhere, current)
        if current.state != "running":  # It was published, and what followed has failed.
            current, folder = begin()
        assert broken_after_tidying(anywhere) == []

    calls = until_it_passes(faults, work, settle)
    tell(f"T15 a publication ({kind}): each of {calls - 1} calls failed, before and after")
    assert calls > 4
    assert faults.lost_commits == {False, True}
    with anywhere.database.read() as session:
        assert session.get_one(Job, current.id).state == "succeeded"
    assert broken_after_tidying(anywhere) == []


def test_a_collection(anywhere: Resources, faults: Faults, tell: Tell) -> None:
    content.a_model(anywhere, content.a_dataset(anywhere, b"one"))
    before = content.stored(anywhere)

    def work() -> None:
        garbage.collect(anywhere, 0.0)

    def settle() -> None:
        anywhere.storage.put_bytes("models/job_gone/1/x", b"")
        anywhere.storage.put_bytes("uploads/up_gone", b"")

    settle()
    calls = until_it_passes(faults, work, settle)
    tell(f"T15 a collection: each of {calls - 1} calls failed, before and after its effect")
    assert content.stored(anywhere) == before
    assert broken_after_tidying(anywhere) == []


def test_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random, tell: Tell
) -> None:
    """Whatever call of a save fails, the newest checkpoint that can be read is old or new."""
    faults = Faults()
    for owner, name in ((os, "fsync"), (os, "open"), (Path, "replace"), (Path, "unlink")):
        whole: Callable[..., object] = getattr(owner, name)

        def failing(
            *args: object, whole: Callable[..., object] = whole, **kwargs: object
        ) -> object:
            with faults.call(OSError(errno.EIO, "told to")):
                return whole(*args, **kwargs)

        monkeypatch.setattr(owner, name, failing)
    checkpoint.save(tmp_path, 0, {"weight": torch.zeros(4)}, {"step": 0})
    step = last = 0
    for number in range(1, MOST):
        for faults.after in (False, True):
            step += 1
            faults.left = number
            tensors = {"weight": torch.full((4,), chance.random())}
            passed = True
            try:
                checkpoint.save(tmp_path, step, tensors, {"step": step})
            except OSError:
                passed = False
            done, faults.left = passed and faults.left > 0, 0
            newest = checkpoint.newest_first(tmp_path)
            _, state = checkpoint.read(newest[0])
            assert state["step"] in ((step,) if passed else (step, last)), number
            last = state["step"]
            if done:
                tell(f"T15 a checkpoint: each of {number - 1} calls failed, before and after")
                assert number > 3
                return
    pytest.fail("it does not pass")
