"""A job is blamed for what its own process did, and for nothing else."""

from collections.abc import Callable

import pytest
from sqlalchemy import update

from core.domain import blame, job_states, jobs, leases
from core.store.resources import Resources
from core.store.tables import Job
from core.system.faults import Fault
from tests.claims import claim_best

CRASHES = 3  # TOPWORK_MAX_ATTEMPTS
LOSSES = 20  # TOPWORK_MAX_LOSSES
PHASES = ("preparing", "training", "evaluating", "calibrating", "publishing")
OUR_BUG = Fault("KeyError", "models/train.py, line 1, train", "'x'")


@pytest.fixture
def job_id(resources: Resources) -> str:
    with resources.database.write() as session:
        return jobs.submit(session, kind="finetune", config={}).id


def claimed(resources: Resources) -> Job:
    """Claim the job, however long it was to rest."""
    with resources.database.write() as session:
        session.execute(update(Job).values(not_before=None))
    with resources.database.write() as session:
        job = claim_best(session)
    assert job is not None
    return job


def look(resources: Resources, job_id: str) -> Job:
    with resources.database.read() as session:
        return jobs.get(session, job_id)


def crash(resources: Resources, job: Job, fault: Fault | None = None) -> None:
    with resources.database.write() as session:
        leases.crashed(session, job.id, job.fence, "it broke off", CRASHES, fault)


def lose(resources: Resources, job: Job) -> None:
    """The worker vanishes; its lease runs out."""
    with resources.database.write() as session:
        session.execute(update(Job).where(Job.id == job.id).values(lease_until=1.0))
    assert leases.sweep(resources.database, resources.settings) == 1


def report(resources: Resources, job: Job, *reports: dict[str, object]) -> None:
    with resources.database.write() as session:
        leases.record(session, job.id, job.fence, [dict(one) for one in reports])


def test_three_crashes_without_progress_are_poison(resources: Resources, job_id: str) -> None:
    for _ in range(CRASHES):
        crash(resources, claimed(resources))
    job = look(resources, job_id)
    assert (job.state, job.error and job.error["code"]) == ("failed", "poison")


def test_losses_are_no_crashes_and_do_not_add_up_with_them(
    resources: Resources, job_id: str
) -> None:
    for _ in range(LOSSES - 1):
        lose(resources, claimed(resources))
    for _ in range(CRASHES - 1):
        crash(resources, claimed(resources))
    job = look(resources, job_id)
    assert (job.state, job.losses, job.stalls) == ("queued", LOSSES - 1, CRASHES - 1)


def test_a_job_that_takes_every_worker_along_ends(resources: Resources, job_id: str) -> None:
    for _ in range(LOSSES):
        lose(resources, claimed(resources))
    job = look(resources, job_id)
    assert job.error is not None
    assert (job.state, job.error["code"]) == ("failed", "worker_lost")
    assert "20 attempts were lost in a row" in job.error["message"]


def test_full_disks_bring_no_job_nearer_to_its_end(resources: Resources, job_id: str) -> None:
    for _ in range(LOSSES):
        job = claimed(resources)
        with resources.database.write() as session:
            leases.starved(session, job.id, job.fence, "full", 1.0)
    lose(resources, claimed(resources))
    crash(resources, claimed(resources))
    job = look(resources, job_id)
    assert (job.state, job.shortages, job.losses, job.stalls) == ("queued", LOSSES, 1, 1)


def test_losses_make_a_job_rest_longer_each_time_and_it_says_why(
    resources: Resources, job_id: str
) -> None:
    pauses = []
    for number in range(1, LOSSES):
        lose(resources, claimed(resources))
        with resources.database.read() as session:
            job = jobs.get(session, job_id)
            rests = 0.0 if job.not_before is None else job.not_before - job_states.now(session)
            assert (leases.best(session) is None) == (number > 1)
            told = jobs.waits_for(session, job)
        if number > 1:
            assert told is not None
            assert told["for"] == "worker"
            assert f"after {number} losses in a row" in told["reason"]
        pauses.append(rests)
    wanted = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
    assert pauses == pytest.approx(wanted + [blame.LONGEST_PAUSE] * 8, abs=5)


@pytest.mark.parametrize("end", [crash, lose])
def test_a_phase_and_a_step_reached_for_the_first_time_are_progress(
    resources: Resources, job_id: str, end: Callable[[Resources, Job], None]
) -> None:
    reached: list[dict[str, object]] = []
    news: list[dict[str, object]] = [{"kind": "phase", "phase": phase} for phase in PHASES]
    news[2:2] = [{"kind": "progress", "step": step} for step in (1, 2)]
    for new in news:
        for _ in range(CRASHES - 1):
            end(resources, claimed(resources))
        reached.append(new)
        job = claimed(resources)
        report(resources, job, *reached)
        end(resources, job)
        job = look(resources, job_id)
        assert (job.state, job.stalls, job.losses) == ("queued", 0, 0)


def test_to_come_as_far_as_before_is_no_progress(resources: Resources, job_id: str) -> None:
    """Every attempt begins with the same phases, and an ingestion with the same images."""
    for attempt in range(1 + CRASHES):
        assert look(resources, job_id).stalls == max(0, attempt - 1)
        job = claimed(resources)
        report(resources, job, {"kind": "phase", "phase": "training"})
        report(resources, job, {"kind": "progress", "step": 7}, {"kind": "progress", "step": 3})
        crash(resources, job)
    job = look(resources, job_id)
    assert (job.state, job.error and job.error["code"]) == ("failed", "poison")


def test_an_exception_that_comes_again_ends_the_job_whatever_was_lost_between(
    resources: Resources, job_id: str
) -> None:
    crash(resources, claimed(resources), OUR_BUG)
    lose(resources, claimed(resources))
    crash(resources, claimed(resources), OUR_BUG)
    job = look(resources, job_id)
    assert job.error is not None
    assert (job.state, job.error["code"]) == ("failed", "unexpected_exception")


def test_progress_between_two_exceptions_makes_the_second_the_first(
    resources: Resources, job_id: str
) -> None:
    crash(resources, claimed(resources), OUR_BUG)
    job = claimed(resources)
    report(resources, job, {"kind": "progress", "step": 1})
    lose(resources, job)
    crash(resources, claimed(resources), OUR_BUG)
    assert look(resources, job_id).state == "queued"


@pytest.mark.parametrize("end", [crash, lose])
def test_a_wish_of_the_user_comes_before_any_blame(
    resources: Resources, job_id: str, end: Callable[[Resources, Job], None]
) -> None:
    with resources.database.write() as session:
        session.execute(update(Job).values(stalls=CRASHES - 1, losses=LOSSES - 1, fault="f"))
    job = claimed(resources)
    with resources.database.write() as session:
        jobs.cancel(session, job_id)
    end(resources, job)
    assert look(resources, job_id).state == "cancelled"
    with resources.database.write() as session:
        jobs.retry(session, job_id)
    job = look(resources, job_id)
    assert (job.state, job.stalls, job.losses, job.fault) == ("queued", 0, 0, None)


def test_ten_losses_in_each_phase_and_it_succeeds_once(resources: Resources, job_id: str) -> None:
    for reached in range(1, len(PHASES) + 1):
        for _ in range(10):
            job = claimed(resources)
            for phase in PHASES[:reached]:
                report(resources, job, {"kind": "phase", "phase": phase})
            lose(resources, job)
    job = claimed(resources)
    with resources.database.write() as session:
        leases.succeed(session, job_id, job.fence, {})
    done = look(resources, job_id)
    assert (done.state, done.attempt, done.stalls) == ("succeeded", 51, 0)
