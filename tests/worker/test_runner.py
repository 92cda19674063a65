"""Which job a worker takes: the one that it looked at, and none that finds no room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.domain import events, jobs, leases
from core.store.resources import Resources
from core.store.tables import Job
from tests.waiting import wait_for
from topwork.errors import OutOfMemory
from topwork.kinds import Lane
from worker.kinds.kind import Work
from worker.outcomes import Crashed
from worker.process.job_process import Ending, Exit
from worker.runner import Runner, raise_for

TOO_MUCH = 10**18
SWEEP = 0.05


def runner(resources: Resources, needs: Callable[[Resources, Job], int]) -> Runner:
    """A worker that asks for so many bytes, and looks again soon at what found none."""
    settings = resources.settings.model_copy(update={"sweep_seconds": SWEEP})
    work = Work("none", None, None, needs=needs)  # type: ignore[arg-type]  # It is only asked for sizes.
    return Runner(replace(resources, settings=settings), 1, {"finetune": work})


def asked(_resources: Resources, job: Job) -> int:
    return int(job.config["bytes"])


def submit(resources: Resources, size: int = 0, priority: str = "normal") -> str:
    with resources.database.write() as session:
        config = {"bytes": size}
        return jobs.submit(session, kind="finetune", config=config, priority=priority).id


def look(resources: Resources, job_id: str) -> Job:
    with resources.database.read() as session:
        return jobs.get(session, job_id)


def claimed(worker: Runner) -> str | None:
    found = worker._claim(Lane.LONG)
    return found[0].id if found else None


def test_a_job_without_room_says_so_and_those_behind_it_run(resources: Resources) -> None:
    large = submit(resources, TOO_MUCH, priority="high")
    small = [submit(resources) for _ in range(3)]
    worker = runner(resources, asked)
    assert [claimed(worker) for _ in range(4)] == [*small, None]
    with resources.database.read() as session:
        job = jobs.get(session, large)
        told = jobs.waits_for(session, job)
        notes = [event for event in events.after(session, large) if event.kind == "waiting"]
    assert (job.state, job.attempt, told and told["for"]) == ("queued", 0, "disk")
    assert "of free disk" in str(told)
    assert len(notes) == 1


def test_it_runs_once_there_is_room(resources: Resources) -> None:
    large = submit(resources, TOO_MUCH)
    sizes = {large: TOO_MUCH}
    worker = runner(resources, lambda _, job: sizes[job.id])
    assert claimed(worker) is None
    sizes[large] = 0
    assert wait_for(lambda: claimed(worker)) == large
    assert (look(resources, large).lacks, look(resources, large).reason) == (None, None)


def test_a_worker_with_room_takes_what_another_has_none_for(resources: Resources) -> None:
    """However often the other looks first."""
    large = submit(resources, TOO_MUCH)
    cramped, roomy = runner(resources, asked), runner(resources, lambda *_: 0)
    assert claimed(cramped) is None
    assert claimed(roomy) == large


def test_what_is_claimed_is_what_was_looked_at(resources: Resources) -> None:
    """A job that comes meanwhile is better by its priority, and would find no room."""
    first = submit(resources)
    looked: list[str] = []

    def needs(_resources: Resources, job: Job) -> int:
        if not looked:
            submit(resources, TOO_MUCH, priority="high")
        looked.append(job.id)
        return asked(_resources, job)

    assert claimed(runner(resources, needs)) == first
    assert looked == [first]


def cancel(resources: Resources, job_id: str) -> None:
    with resources.database.write() as session:
        jobs.cancel(session, job_id)


def pause(resources: Resources, job_id: str) -> None:
    with resources.database.write() as session:
        jobs.pause(session, job_id)


def pause_and_resume(resources: Resources, job_id: str) -> None:
    with resources.database.write() as session:
        jobs.pause(session, job_id)
        jobs.resume(session, job_id)


def take(resources: Resources, job_id: str) -> None:
    with resources.database.write() as session:
        assert leases.claim(session, jobs.get(session, job_id), "another", 30)


@pytest.mark.parametrize(
    ("change", "looks"), [(cancel, 1), (pause, 1), (take, 1), (pause_and_resume, 2)]
)
def test_what_changed_since_the_look_is_looked_at_again(
    resources: Resources, change: Callable[[Resources, str], None], looks: int
) -> None:
    job_id, behind = submit(resources), submit(resources)
    looked: list[str] = []

    def needs(_resources: Resources, job: Job) -> int:
        if not looked:
            change(resources, job_id)
        looked.append(job.id)
        return 0

    took = claimed(runner(resources, needs))
    assert looked.count(job_id) == looks
    assert took == (job_id if looks == 2 else behind)


@pytest.mark.parametrize(
    ("granted", "warm"), [(1 << 30, []), (2 << 30, ["models.predict", "models.train"])]
)
def test_a_warm_process_is_kept_only_where_memory_allows(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, granted: int, warm: list[str]
) -> None:
    monkeypatch.setattr("worker.runner.memory", lambda: granted)
    settings = resources.settings.model_copy(update={"warm_start": True})
    worker = Runner(replace(resources, settings=settings), 1)
    assert worker.warm.modules == warm


@pytest.mark.parametrize(
    ("said", "began", "hint"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'\n", False, "machine"),
        (
            "DefaultCPUAllocator: can't allocate memory",
            True,
            "batch",
        ),
    ],
)
def test_an_abort_for_want_of_memory_is_known_by_its_last_words(
    tmp_path: Path, *, said: str, began: bool, hint: str
) -> None:
    folder = tmp_path / "2"
    folder.mkdir()
    (folder / "log.txt").write_text(f"--- attempt 2 ---\n{said}")
    if began:
        (folder / "events.jsonl").touch()
    with pytest.raises(OutOfMemory) as raised:
        raise_for(Exit(Ending.CRASHED, 134), folder)
    assert hint in str(raised.value.hint)


def test_what_an_earlier_attempt_said_explains_no_later_one(tmp_path: Path) -> None:
    folder = tmp_path / "2"
    folder.mkdir()
    (folder / "log.txt").write_text("std::bad_alloc\n--- attempt 2 ---\n")
    with pytest.raises(Crashed, match="it said nothing"):
        raise_for(Exit(Ending.CRASHED, 134), folder)
