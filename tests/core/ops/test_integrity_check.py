"""Each kind of damage is told, a healthy service is not accused, running or at rest."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from app.api.uploads import partial_file
from core.domain import jobs, uploads
from core.store.resources import Resources
from core.store.tables import Job, JobEvent, ModelVersion
from tests import content
from tests.invariants import broken, broken_after_tidying, own_tmp


@pytest.fixture
def service(resources: Resources) -> Resources:
    """A service with a dataset of two shards, a model that has left as a file and has answered,
    a queued and a cancelled job.
    """
    dataset = content.a_dataset(resources, b"one", b"two")
    content.a_model(resources, dataset)
    content.an_export(resources)
    content.answered(resources, dataset)
    with resources.database.write() as session:
        stopped = jobs.submit(session, kind="finetune", config={})
        jobs.cancel(session, stopped.id)
        jobs.submit(session, kind="finetune", config={})
    return resources


def test_a_healthy_service_breaks_nothing_anywhere(anywhere: Resources) -> None:
    content.a_model(anywhere, content.a_dataset(anywhere, b"one", b"two"))
    content.training(anywhere, content.a_dataset(anywhere, b"three"))  # It is running.
    assert broken(anywhere) == []
    assert broken_after_tidying(anywhere) == []


def spoil(resources: Resources, start: str, data: bytes | None, end: str = "") -> None:
    """Replace or remove the first object whose key begins, and ends, so."""
    key = next(key for key in resources.storage.list(start) if key.endswith(end))
    resources.storage.delete(key)
    if data is not None:
        resources.storage.put_bytes(key, data)


def lose_event(resources: Resources) -> None:
    with resources.database.write() as session:
        session.execute(delete(JobEvent).where(JobEvent.seq == 2))


def change(resources: Resources, **values: object) -> None:
    with resources.database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(**values))


def lose_version(resources: Resources) -> None:
    with resources.database.write() as session:
        session.execute(update(ModelVersion).values(job_id=None))


DAMAGE: dict[str, tuple[Callable[[Resources], None], str]] = {
    "gap": (lose_event, "its events have gaps"),
    "state": (lambda it: change(it, state="paused"), "its history ends queued"),
    "worker": (lambda it: change(it, worker="me"), "its worker is me"),
    "fence": (lambda it: change(it, fence=1), "its claims have the fences []"),
    "finished": (lambda it: change(it, finished_at=1.0), "finished at 1.0"),
    "silent pause": (lambda it: change(it, not_before=1.0), "does not say what for"),
    "waits for nothing": (
        lambda it: change(it, lacks="disk", state="paused"),
        "it is paused and waits for disk",
    ),
    "no version": (lose_version, "has 0 model versions"),
    "lost shard": (lambda it: spoil(it, "shards", None), ".tar is missing"),
    "damaged shard": (lambda it: spoil(it, "shards", b"no"), ".tar is damaged"),
    "damaged model": (lambda it: spoil(it, "models", b"no"), "card.json is damaged"),
    "damaged export": (lambda it: spoil(it, "exports", b"no", "model.onnx"), "onnx is damaged"),
    "torn list": (
        lambda it: spoil(it, "exports", b"no", "manifest.json"),
        "manifest.json is damaged",
    ),
    "lost export": (lambda it: it.storage.delete_prefix("exports"), "model.onnx is missing"),
    "damaged answers": (lambda it: spoil(it, "predictions", b"no", "s.jsonl"), "jsonl is damaged"),
    "lost answers": (lambda it: it.storage.delete_prefix("predictions"), "jsonl is missing"),
    "lost dataset": (lambda it: it.storage.delete_prefix("datasets"), "manifest.jsonl is missing"),
    "orphan": (lambda it: it.storage.put_bytes("models/job_1/1/x", b""), "no row refers"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told(service: Resources, name: str) -> None:
    damage, words = DAMAGE[name]
    assert broken(service, grace=0.0) == []
    damage(service)
    assert any(words in found for found in broken(service, grace=0.0)), broken(service, 0.0)


def test_what_was_left_by_the_dead_is_told_once_it_is_old(service: Resources) -> None:
    draft = service.settings.data_dir / "objects" / ".put-dead"
    draft.mkdir()
    ended = service.settings.data_dir / "runs" / "job_gone"
    ended.mkdir(parents=True)
    os.utime(ended, (time.time() - 9, time.time() - 9))
    assert broken(service, grace=60.0) == []
    assert len(broken(service, grace=0.0)) == 2
    assert broken_after_tidying(service) == []
    assert not draft.exists()


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """An upload's folder whose api lives on."""
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    yield folder
    os.close(handle)


def test_an_upload_under_way_is_told_and_one_of_the_dead_is_tidied(service: Resources) -> None:
    place = service.settings.data_dir / "tmp" / "upload-x"
    with held(place):
        assert broken_after_tidying(service) == [f"{place}: a process has left this"]
    assert broken_after_tidying(service) == []
    assert not place.exists()


@pytest.mark.parametrize("place", ["tmp/demo.zip", ".topwork.db.part", "objects/x/1"])
def test_a_file_that_nobody_knows_is_told(service: Resources, place: str) -> None:
    path = service.settings.data_dir / place
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert len(broken_after_tidying(service)) == 1


def test_an_upload_is_told_that_has_lost_its_file(service: Resources) -> None:
    with service.database.write() as session:
        row = uploads.create(session, length=1, filename=None, metadata="", hours=1.0, most=1)
    assert broken_after_tidying(service) == [f"upload {row.id}: its file is gone"]
    partial_file.begin(partial_file.path_of(service.settings, row.id))
    partial_file.begin(
        partial_file.path_of(service.settings, "up_nobody")
    )  # Goes, as no row knows it.
    assert broken_after_tidying(service) == []


def test_a_process_that_is_left_running_is_told_and_ended() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(AssertionError, match=r"still running: .*sleep"), own_tmp() as folder:
        left = subprocess.Popen(sleeper, env={"TMPDIR": str(folder)})
    assert left.wait(5) < 0
    assert not folder.exists()


def test_a_temporary_file_that_is_left_is_told() -> None:
    with pytest.raises(AssertionError, match=r"left .*forgotten"), own_tmp() as folder:
        (folder / "forgotten").touch()
