"""What each end of an attempt writes into a real row."""

import errno

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from core.domain import job_states, jobs, leases
from core.store.object_store import StorageUnavailable
from core.store.resources import Resources
from core.store.tables import Job
from tests.claims import claim_best
from topwork.errors import OutOfMemory, from_dict
from worker import outcomes
from worker.outcomes import Crashed, Drained, Lost

REFUSED = from_dict({"code": "loss_diverged", "message": "said so", "param": None, "hint": None})


def claimed(resources: Resources, *, cancel: bool = False) -> Job:
    with resources.database.write() as session:
        jobs.submit(session, kind="finetune", config={})
    with resources.database.write() as session:
        job = claim_best(session, "me", 30)
    assert job is not None
    if cancel:
        with resources.database.write() as session:
            jobs.cancel(session, job.id)
    return job


@pytest.mark.parametrize(
    ("error", "state", "code", "stalls", "losses"),
    [
        (Drained(), "queued", None, 0, 0),
        (StorageUnavailable("away"), "queued", None, 0, 0),
        (OperationalError("", {}, Exception()), "queued", None, 0, 0),
        (IntegrityError("", {}, Exception()), "queued", None, 0, 1),
        (Crashed("boom"), "queued", None, 1, 0),
        (Lost("killed"), "queued", None, 0, 1),
        (ZeroDivisionError("a bug of the worker's"), "queued", None, 0, 1),
        (PermissionError(errno.EACCES, "no"), "queued", None, 0, 1),
        (REFUSED, "failed", "loss_diverged", 0, 0),
        (OutOfMemory(), "failed", "out_of_memory", 0, 0),
        (OSError(errno.ENOSPC, "full"), "queued", None, 0, 0),
        (from_dict({"code": "disk_full", "message": "full"}), "queued", None, 0, 0),
    ],
)
def test_each_end_has_its_place(
    resources: Resources, error: Exception, state: str, code: str | None, stalls: int, losses: int
) -> None:
    job = claimed(resources)
    with resources.database.write() as session:
        outcomes.write(session, job, error, resources.settings, cancelled=False)
    with resources.database.read() as session:
        row = jobs.get(session, job.id)
    assert (row.state, row.stalls, row.losses) == (state, stalls, losses)
    assert (row.error or {}).get("code") == code


@pytest.mark.parametrize("error", [Drained(), Crashed("boom"), REFUSED])
def test_a_wish_to_cancel_comes_first(resources: Resources, error: Exception) -> None:
    job = claimed(resources, cancel=True)
    with resources.database.write() as session:
        outcomes.write(session, job, error, resources.settings, cancelled=True)
    with resources.database.read() as session:
        assert jobs.get(session, job.id).state == "cancelled"


def test_nothing_is_written_for_a_job_that_was_lost(resources: Resources) -> None:
    job = claimed(resources)
    job.fence -= 1
    with pytest.raises(leases.LostLease), resources.database.write() as session:
        outcomes.write(session, job, Crashed("late"), resources.settings, cancelled=False)


def retried(resources: Resources, job_id: str) -> Job:
    """Let a job's pause be over, and claim it."""
    with resources.database.write() as session:
        jobs.get(session, job_id, lock=True).not_before = 0.0
    with resources.database.write() as session:
        job = claim_best(session)
    assert job is not None
    return job


def test_a_full_disk_never_fails_a_job_and_each_pause_is_longer(resources: Resources) -> None:
    full = OSError(errno.ENOSPC, "full")
    job, pauses = claimed(resources), []
    for _ in range(10):
        with resources.database.write() as session:
            outcomes.write(session, job, full, resources.settings, cancelled=False)
        with resources.database.read() as session:
            row = jobs.get(session, job.id)
            assert (row.state, row.lacks, leases.best(session)) == ("queued", "disk", None)
            assert row.not_before is not None
            pauses.append(row.not_before - job_states.now(session))
        job = retried(resources, job.id)
        assert (job.lacks, job.reason, job.not_before) == (None, None, None)
    assert pauses[0] == pytest.approx(resources.settings.sweep_seconds, abs=5)
    assert pauses[-1] > 200
    assert (job.stalls, job.losses, job.shortages) == (0, 0, 10)


NOTHING: dict[object, object] = {}
BROKEN = (
    lambda: NOTHING[object()],
    lambda: NOTHING[object()],
)


def raised(place: int) -> Exception:
    """Return the exception of a bug, with a message of its own each time, at one of two places."""
    with pytest.raises(KeyError) as caught:
        BROKEN[place - 1]()
    return caught.value


def test_the_same_bug_of_the_worker_twice_ends_the_job(resources: Resources) -> None:
    job = claimed(resources)
    for place, state in ((1, "queued"), (2, "queued"), (2, "failed")):
        with resources.database.write() as session:
            outcomes.write(session, job, raised(place), resources.settings, cancelled=False)
        with resources.database.read() as session:
            row = jobs.get(session, job.id)
        assert row.state == state
        job = retried(resources, job.id) if state == "queued" else job
    assert (row.error or {})["code"] == "unexpected_exception"
    assert "KeyError in tests/worker/test_outcomes.py" in (row.error or {})["message"]


def test_the_same_exception_after_progress_is_met_again(resources: Resources) -> None:
    job = claimed(resources)
    for step in range(1, 5):
        with resources.database.write() as session:
            leases.record(session, job.id, job.fence, [{"kind": "progress", "step": step}])
            outcomes.write(session, job, raised(1), resources.settings, cancelled=False)
        job = retried(resources, job.id)
    assert job.fence == 5
