"""What each end of an attempt writes into a real row."""

import errno

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from core import jobs, leases
from core.errors import OutOfMemory
from core.resources import Resources
from core.storage import StorageUnavailable
from core.tables import Job
from tests.claims import claim_best
from worker import ends
from worker.ends import Crashed, Drained, Refused

REFUSAL = {"code": "loss_diverged", "message": "said so", "param": None, "hint": None}


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
    ("error", "state", "code", "stalls"),
    [
        (Drained(), "queued", None, 0),
        (StorageUnavailable("away"), "queued", None, 0),
        (OperationalError("", {}, Exception()), "queued", None, 0),
        (IntegrityError("", {}, Exception()), "queued", None, 1),
        (Crashed("boom"), "queued", None, 1),
        (ZeroDivisionError("a bug of the worker's"), "queued", None, 1),
        (PermissionError(errno.EACCES, "no"), "queued", None, 1),
        (Refused(REFUSAL), "failed", "loss_diverged", 0),
        (OutOfMemory(), "failed", "out_of_memory", 0),
        (OSError(errno.ENOSPC, "full"), "queued", None, 1),
        (Refused({"code": "disk_full", "message": "full"}), "queued", None, 1),
    ],
)
def test_each_end_has_its_place(
    resources: Resources, error: Exception, state: str, code: str | None, stalls: int
) -> None:
    job = claimed(resources)
    with resources.database.write() as session:
        ends.write(session, job, error, resources.settings, cancelled=False)
    with resources.database.read() as session:
        row = jobs.get(session, job.id)
    assert (row.state, row.stalls) == (state, stalls)
    assert (row.error or {}).get("code") == code


@pytest.mark.parametrize("error", [Drained(), Crashed("boom"), Refused(REFUSAL)])
def test_a_wish_to_cancel_comes_first(resources: Resources, error: Exception) -> None:
    job = claimed(resources, cancel=True)
    with resources.database.write() as session:
        ends.write(session, job, error, resources.settings, cancelled=True)
    with resources.database.read() as session:
        assert jobs.get(session, job.id).state == "cancelled"


def test_nothing_is_written_for_a_job_that_was_lost(resources: Resources) -> None:
    job = claimed(resources)
    job.fence -= 1
    with pytest.raises(leases.LostLease), resources.database.write() as session:
        ends.write(session, job, Crashed("late"), resources.settings, cancelled=False)


def test_a_job_that_fills_every_disk_ends_with_that_reason(resources: Resources) -> None:
    full = OSError(errno.ENOSPC, "full")
    job = claimed(resources)
    for attempt in (1, 2, 3):
        with resources.database.write() as session:
            ends.write(session, job, full, resources.settings, cancelled=False)
        with resources.database.write() as session:
            row = jobs.get(session, job.id, lock=True)
            if attempt == 3:
                break
            assert (row.state, row.lacks, leases.best(session)) == ("queued", "disk", None)
            row.not_before = 0.0
        with resources.database.write() as session:
            again = claim_best(session, "me", 30)
        assert again is not None
        assert (again.lacks, again.reason, again.not_before) == (None, None, None)
        job = again
    assert row.state == "failed"
    assert (row.error or {})["code"] == "disk_full"


BROKEN = (
    lambda: {}[object()],
    lambda: {}[object()],
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
            ends.write(session, job, raised(place), resources.settings, cancelled=False)
        with resources.database.read() as session:
            row = jobs.get(session, job.id)
        assert row.state == state
        with resources.database.write() as session:
            job = claim_best(session, "me", 30) or job
    assert (row.error or {})["code"] == "unexpected_exception"
    assert "KeyError in tests/worker/test_ends.py" in (row.error or {})["message"]


def test_the_same_exception_after_progress_is_met_again(resources: Resources) -> None:
    job = claimed(resources)
    for step in range(1, 5):
        with resources.database.write() as session:
            leases.record(session, job.id, job.fence, [{"kind": "progress", "step": step}])
            ends.write(session, job, raised(1), resources.settings, cancelled=False)
        with resources.database.write() as session:
            job = claim_best(session, "me", 30) or job
    assert job.fence == 5
