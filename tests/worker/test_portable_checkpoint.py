"""Two hosts, each with a data folder of its own, and one storage: a job goes on where it was."""

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.domain import checkpoints, jobs, leases
from core.store.migrate import upgrade
from core.store.resources import Resources
from core.store.tables import Job
from core.system.failpoints import VARIABLE
from core.system.settings import Settings
from tests.claims import claim_best
from tests.waiting import wait_for
from tests.worker.conftest import Bench
from worker import attempt, portable_checkpoint
from worker.kinds.kind import Check
from worker.portable_checkpoint import LAST_SECONDS, Shipper

STEPS = 12


@pytest.fixture(
    params=["local", pytest.param("remote", marks=[pytest.mark.chaos, pytest.mark.nightly])]
)
def hosts(
    request: pytest.FixtureRequest,
    make_bench: Callable[..., Any],
    settings: Settings,
    tmp_path: Path,
) -> Iterator[Bench]:
    """A bench whose workers reach each other's storage: a shared folder, or Postgres and S3."""
    places = {
        "database_url": settings.database_url,
        "storage_url": f"file://{tmp_path / 'shared'}",
    }
    if request.param == "remote":
        places = {
            "database_url": request.getfixturevalue("postgres"),
            "storage_url": request.getfixturevalue("s3"),
        }
        upgrade(places["database_url"])
    with make_bench(lease_seconds=3.0, checkpoint_seconds=0.1, **places) as bench:
        yield bench


def other_host(bench: Bench, tmp_path: Path) -> None:
    """From here on workers start on a host that has nothing of the jobs."""
    bench.environment["TOPWORK_DATA_DIR"] = str(tmp_path / "other")
    bench.environment.pop(VARIABLE, None)


def named_step(bench: Bench, job_id: str) -> int:
    with bench.resources.database.read() as session:
        row = checkpoints.find(session, job_id)
    if row is None or "step" not in row.files:
        return 0
    return int(bench.resources.storage.get_bytes(row.files["step"]["key"]))


def starts(bench: Bench, job_id: str) -> list[int]:
    """Return the steps behind which the attempts began whose log is there."""
    log = bench.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    return [int(line.rpartition(" ")[2]) for line in log.splitlines() if "starts at step" in line]


def notes(bench: Bench, job_id: str) -> list[str]:
    return [event.data["code"] for event in bench.events(job_id) if event.kind == "note"]


def epochs(bench: Bench, job_id: str) -> list[int]:
    return [event.data["epoch"] for event in bench.events(job_id) if event.kind == "epoch"]


def test_another_host_goes_on_where_a_killed_one_was(hosts: Bench, tmp_path: Path) -> None:
    hosts.worker()
    job_id = hosts.submit({STEPS - 1: "wait"}, steps=STEPS)
    hosts.wait("waiting")
    wait_for(lambda: named_step(hosts, job_id) == STEPS - 2)
    os.killpg(hosts.workers[0].pid, signal.SIGKILL)
    other_host(hosts, tmp_path)
    hosts.worker()
    job = hosts.reaches(job_id, "succeeded", "failed", timeout=60)
    assert (job.state, job.attempt) == ("succeeded", 2), job.error
    assert starts(hosts, job_id) == [STEPS - 2]
    assert notes(hosts, job_id) == ["checkpoint_fetched"]
    assert epochs(hosts, job_id) == list(range(1, STEPS + 1))
    assert len(hosts.published(job_id)) == 1
    wait_for(lambda: not hosts.resources.storage.list("runs"))


def test_a_drained_host_leaves_everything_that_was_done(hosts: Bench, tmp_path: Path) -> None:
    hosts.environment["TOPWORK_CHECKPOINT_SECONDS"] = "3600"  # All but the first is the last one.
    hosts.environment["TOPWORK_LEASE_SECONDS"] = "30"  # Nobody dies here.
    hosts.worker()
    job_id = hosts.submit({STEPS - 1: "wait"}, steps=STEPS)
    hosts.wait("waiting")
    hosts.workers[0].send_signal(signal.SIGTERM)
    assert hosts.workers[0].wait(30) == 0
    assert hosts.job(job_id).state == "queued"
    assert named_step(hosts, job_id) == STEPS - 2
    other_host(hosts, tmp_path)
    hosts.worker()
    job = hosts.reaches(job_id, "succeeded", "failed", timeout=60)
    assert (job.state, job.attempt) == ("succeeded", 2), job.error
    assert starts(hosts, job_id) == [STEPS - 2]


def test_a_storage_that_hangs_keeps_no_worker_from_leaving(hosts: Bench) -> None:
    hosts.environment["TOPWORK_LEASE_SECONDS"] = "30"
    hosts.environment[VARIABLE] = "storage.between_checkpoints=hang"
    hosts.worker(grace=1.0)
    job_id = hosts.submit({3: "wait"})
    hosts.wait("waiting")
    wait_for(lambda: hosts.resources.storage.list("runs"))
    hosts.workers[0].send_signal(signal.SIGTERM)
    told_at = time.monotonic()
    assert hosts.workers[0].wait(60) == 0
    assert time.monotonic() - told_at < LAST_SECONDS / 2
    assert hosts.job(job_id).state == "queued"


def test_a_host_that_dies_while_it_stores_leaves_the_last_whole_set(
    hosts: Bench, tmp_path: Path
) -> None:
    hosts.environment[VARIABLE] = f"storage.between_checkpoints=kill@2?{tmp_path / 'died'}"
    hosts.worker()
    job_id = hosts.submit(dict.fromkeys(range(1, 60), "nap"), steps=60)
    assert hosts.workers[0].wait(60) == -signal.SIGKILL
    reached = named_step(hosts, job_id)
    assert reached > 0
    other_host(hosts, tmp_path)
    hosts.worker()
    job = hosts.reaches(job_id, "succeeded", "failed", timeout=60)
    assert job.state == "succeeded", job.error  # A busy machine may cost the second host a lease.
    assert starts(hosts, job_id)[0] == reached
    assert len(hosts.published(job_id)) == 1


def test_a_storage_that_is_this_hosts_own_gets_no_checkpoints(bench: Bench) -> None:
    bench.environment["TOPWORK_CHECKPOINT_SECONDS"] = "0"
    bench.worker()
    job_id = bench.submit({2: "wait"}, steps=3)
    bench.wait("waiting")
    bench.workers[0].send_signal(signal.SIGTERM)
    assert bench.workers[0].wait(30) == 0
    assert named_step(bench, job_id) == 0
    assert not bench.resources.storage.list("runs")


@pytest.fixture
def sharing(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Resources:
    """A host whose storage counts as one that others reach."""
    monkeypatch.setattr(portable_checkpoint, "is_portable", lambda _resources: True)
    return resources


def claimed(resources: Resources) -> Job:
    with resources.database.write() as session:
        job = claim_best(session)
        assert job is not None
        return job


def attempted(resources: Resources, folder: Path, **files: str) -> Job:
    """Run an attempt that leaves these files in its checkpoint, and hand the job back."""
    with resources.database.write() as session:
        jobs.submit(session, kind="finetune", config={})
    job = claimed(resources)
    checkpoint = folder / str(job.fence) / "checkpoint"
    checkpoint.mkdir(parents=True)
    for name, text in files.items():
        (checkpoint / name).write_text(text)
    Shipper(resources, job, checkpoint.parent).finish(LAST_SECONDS)
    give_back(resources, job)
    return job


def began(resources: Resources, folder: Path, check: Check = lambda: None) -> dict[str, str]:
    """Claim the job again, and return what its new attempt finds."""
    job = claimed(resources)
    attempt_folder = folder / str(job.fence)
    Shipper(resources, job, attempt_folder).begin(check)
    return content(attempt_folder / "checkpoint")


def content(folder: Path) -> dict[str, str]:
    files = folder.iterdir() if folder.is_dir() else ()
    return {path.name: path.read_text() for path in files}


def give_back(resources: Resources, job: Job) -> None:
    with resources.database.write() as session:
        leases.release(session, job.id, job.fence, "its worker was stopped")


def stored(resources: Resources, job: Job) -> tuple[int, dict[str, Any], list[str]]:
    """Return what the row names, by which attempt, and what storage has."""
    with resources.database.read() as session:
        row = checkpoints.find(session, job.id)
    assert row is not None
    return row.fence, row.files, sorted(resources.storage.list("runs"))


def test_what_is_found_is_what_was_left(sharing: Resources, tmp_path: Path) -> None:
    attempted(sharing, tmp_path / "here", step="7", best="good")
    assert began(sharing, tmp_path / "there") == {"step": "7", "best": "good"}


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_checkpoint_is_not_used(sharing: Resources, tmp_path: Path, damage: str) -> None:
    attempted(sharing, tmp_path / "here", step="7", best="good")
    (key,) = [key for key in sharing.storage.list("runs") if key.endswith("best")]
    if damage == "gone":
        sharing.storage.delete(key)
    else:
        sharing.storage.put_bytes(key, b"evil")
    assert began(sharing, tmp_path / "there") == {}


def test_a_checkpoint_that_lies_here_and_is_as_new_is_not_fetched(
    sharing: Resources, tmp_path: Path
) -> None:
    job = attempted(sharing, tmp_path / "here", step="7")
    (tmp_path / "here" / str(job.fence) / "checkpoint" / "step").write_text("8")
    assert began(sharing, tmp_path / "here") == {"step": "8"}


@pytest.fixture
def outdated(sharing: Resources, tmp_path: Path) -> Job:
    """A job of which `here` has an older checkpoint than another host has stored."""
    attempted(sharing, tmp_path / "here", step="7", best="good")
    job = claimed(sharing)
    folder = tmp_path / "there" / str(job.fence)
    shipper = Shipper(sharing, job, folder)
    shipper.begin(lambda: None)
    (folder / "checkpoint" / ".step").write_text("9")
    (folder / "checkpoint" / ".step").replace(folder / "checkpoint" / "step")
    shipper.finish(LAST_SECONDS)
    give_back(sharing, job)
    return job


@pytest.mark.usefixtures("outdated")
def test_an_older_one_that_lies_here_gives_way(sharing: Resources, tmp_path: Path) -> None:
    assert began(sharing, tmp_path / "here") == {"step": "9", "best": "good"}
    assert not list(tmp_path.glob("here/*/older"))


def test_an_older_one_is_used_where_the_newer_is_damaged(
    sharing: Resources, outdated: Job, tmp_path: Path
) -> None:
    sharing.storage.put_bytes(stored(sharing, outdated)[1]["step"]["key"], b"evil")
    assert began(sharing, tmp_path / "here") == {"step": "7", "best": "good"}


class Interrupted(Exception):
    """What a check raises while a checkpoint is on its way."""


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "killed"])
@pytest.mark.parametrize("when", ["fetched", "looked up", "prepared"])
def test_an_older_one_never_counts_as_that_of_an_attempt_that_was_cut(
    sharing: Resources,
    outdated: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    settled: bool,
    when: str,
) -> None:
    before = stored(sharing, outdated)
    job = claimed(sharing)
    shipper = Shipper(sharing, job, tmp_path / "here" / str(job.fence))

    def interrupt(*_given: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        if when == "looked up":
            patch.setattr(checkpoints, "find", interrupt)
        if when == "prepared":
            patch.setattr(attempt, "tail", interrupt)
        with pytest.raises(Interrupted):
            shipper.begin(interrupt)
    if settled:
        shipper.finish(LAST_SECONDS)
    give_back(sharing, job)
    assert stored(sharing, outdated) == before
    assert began(sharing, tmp_path / "here") == {"step": "9", "best": "good"}


def test_what_was_fetched_is_not_stored_again(
    sharing: Resources, outdated: Job, tmp_path: Path
) -> None:
    before = stored(sharing, outdated)
    job = claimed(sharing)
    folder = tmp_path / "third" / str(job.fence)
    shipper = Shipper(sharing, job, folder)
    shipper.begin(lambda: None)
    shipper.finish(LAST_SECONDS)
    assert stored(sharing, outdated) == before
    (folder / "checkpoint" / "more").write_text("1")
    shipper.finish(LAST_SECONDS)
    more = f"runs/{job.id}/{job.fence}/1/more"
    assert stored(sharing, outdated)[2] == sorted([*before[2], more])


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC])
def test_a_disk_without_room_or_links_breaks_no_job(
    sharing: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(*given: object) -> None:
        raise OSError(number, "told to", str(given[0]))

    monkeypatch.setattr(os, "link", fails)
    if number == errno.ENOSPC:
        monkeypatch.setattr(shutil, "copyfile", fails)
    job = attempted(sharing, tmp_path / "here", step="7")
    again = Shipper(sharing, claimed(sharing), tmp_path / "here" / str(job.fence))
    again.look(lambda: None)
    again.finish(LAST_SECONDS)
    assert len(sharing.storage.list("runs")) == (1 if number == errno.EPERM else 0)
    assert content(tmp_path / "here" / str(job.fence) / "checkpoint") == {"step": "7"}
    assert not list(tmp_path.glob("here/*/shipping"))


def test_files_that_stay_are_stored_once_and_those_replaced_go(
    sharing: Resources, tmp_path: Path
) -> None:
    with sharing.database.write() as session:
        jobs.submit(session, kind="finetune", config={})
    job = claimed(sharing)
    folder = tmp_path / str(job.fence)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "best").write_text("good")
    kept = Shipper(sharing, job, folder)
    for step in ("1", "2"):
        (checkpoint / ".part").write_text(step)
        (checkpoint / ".part").replace(checkpoint / "step")
        kept.finish(LAST_SECONDS)
        assert not (folder / "shipping").exists()  # It would keep what the trainer has removed.
    prefix = f"runs/{job.id}/{job.fence}"
    assert sharing.storage.list("runs") == [f"{prefix}/1/best", f"{prefix}/2/step"]
    kept.finish(LAST_SECONDS)  # Nothing is new.
    assert len(sharing.storage.list("runs")) == 2
    with sharing.database.write() as session:
        leases.succeed(session, job.id, job.fence, {})
    kept.forget()
    assert not sharing.storage.list("runs")


def test_an_attempt_that_lost_its_job_names_nothing(sharing: Resources, tmp_path: Path) -> None:
    job = attempted(sharing, tmp_path / "here", step="7")
    again = claimed(sharing)
    (tmp_path / "here" / str(job.fence) / "checkpoint" / "late").write_text("8")
    Shipper(sharing, job, tmp_path / "here" / str(job.fence)).finish(LAST_SECONDS)
    with sharing.database.read() as session:
        row = checkpoints.find(session, again.id)
    assert row is not None
    assert set(row.files) == {"step"}


def test_preparing_tells_whose_checkpoint_it_found(tmp_path: Path) -> None:
    assert attempt.prepare(tmp_path / "job" / "1") == 0
    (tmp_path / "job" / "1" / "checkpoint").mkdir()
    (tmp_path / "job" / "1" / "checkpoint" / "step").write_text(json.dumps(3))
    assert attempt.prepare(tmp_path / "job" / "2") == 1
    assert attempt.prepare(tmp_path / "job" / "5") == 2
