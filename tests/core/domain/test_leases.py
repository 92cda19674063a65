from typing import Any

import pytest
from sqlalchemy import update

from core.domain import datasets, events, jobs, leases
from core.store.resources import Resources
from core.store.tables import Job
from tests.claims import claim_best
from topwork.errors import ClassesLost, JobNotFound, StateConflict
from topwork.kinds import Lane


def submit(resources: Resources, **values: Any) -> str:
    with resources.database.write() as session:
        asked: dict[str, Any] = {"kind": "finetune", "config": {}, **values}
        return jobs.submit(session, **asked).id


def claim(resources: Resources) -> Job | None:
    with resources.database.write() as session:
        return claim_best(session, "worker-1", 30)


def expire(resources: Resources, job_id: str) -> None:
    with resources.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=1.0))


def look(resources: Resources, job_id: str) -> Job:
    with resources.database.read() as session:
        return jobs.get(session, job_id)


def test_a_claim_takes_the_best_job_first(resources: Resources) -> None:
    low = submit(resources, priority="low")
    first = submit(resources)
    second = submit(resources)
    high = submit(resources, priority="high")
    taken = [claim(resources) for _ in range(5)]
    assert [job and job.id for job in taken] == [high, first, second, low, None]
    assert {job.fence for job in taken if job} == {1}


def test_a_stale_fence_cannot_write(resources: Resources) -> None:
    job_id = submit(resources)
    assert claim(resources) is not None
    expire(resources, job_id)
    assert leases.sweep(resources.database, resources.settings) == 1
    again = claim(resources)
    assert again is not None
    assert (again.id, again.fence, again.attempt) == (job_id, 2, 2)
    for write in (
        lambda s: leases.renew(s, job_id, 1, 30),
        lambda s: leases.record(s, job_id, 1, [{"kind": "progress", "progress": 0.9}]),
        lambda s: leases.succeed(s, job_id, 1, {}),
        lambda s: leases.fail(s, job_id, 1, {"message": "late"}),
        lambda s: leases.release(s, job_id, 1, "late"),
    ):
        with pytest.raises(leases.LostLease), resources.database.write() as session:
            write(session)
    assert look(resources, job_id).progress == 0.0
    with resources.database.write() as session:
        leases.succeed(session, job_id, 2, {"model": "pets"})
    assert look(resources, job_id).state == "succeeded"


def test_reports_land_on_the_row_and_in_the_history(resources: Resources) -> None:
    job_id = submit(resources)
    job = claim(resources)
    assert job is not None
    reports: list[dict[str, Any]] = [
        {"kind": "phase", "phase": "training"},
        {"kind": "progress", "progress": 0.5, "step": 10, "eta": 3.0},
        {"kind": "plan", "plan": {"epochs": {"value": 3, "reason": "few images"}}},
        {"kind": "epoch", "epoch": 1, "val_accuracy": 0.9},
    ]
    with resources.database.write() as session:
        leases.record(session, job_id, job.fence, reports)
    row = look(resources, job_id)
    assert (row.phase, row.progress, row.last_step, row.eta) == ("training", 0.5, 10, 3.0)
    assert row.plan == {"epochs": {"value": 3, "reason": "few images"}}
    with resources.database.read() as session:
        history = events.after(session, job_id)
    kinds = [event.kind for event in history]
    assert kinds == ["state", "state", "phase", "plan", "epoch"]
    assert [event.seq for event in history] == [1, 2, 3, 4, 5]


def test_cancel_is_immediate_when_queued_and_asked_when_running(resources: Resources) -> None:
    queued = submit(resources)
    with resources.database.write() as session:
        jobs.cancel(session, queued)
        jobs.cancel(session, queued)
    assert look(resources, queued).state == "cancelled"
    running = submit(resources)
    job = claim(resources)
    assert job is not None
    assert job.id == running
    with resources.database.write() as session:
        assert not leases.renew(session, running, 1, 30).cancel_requested
        jobs.cancel(session, running)
        assert leases.renew(session, running, 1, 30).cancel_requested
    assert jobs.display_state(look(resources, running)) == "cancelling"
    expire(resources, running)
    leases.sweep(resources.database, resources.settings)
    assert look(resources, running).state == "cancelled"


def test_retry_needs_an_unsuccessful_end(resources: Resources) -> None:
    job_id = submit(resources)
    with resources.database.write() as session, pytest.raises(StateConflict):
        jobs.retry(session, job_id)
    job = claim(resources)
    assert job is not None
    with resources.database.write() as session:
        leases.fail(session, job_id, 1, {"code": "out_of_memory", "message": "too big"})
    with resources.database.write() as session:
        jobs.retry(session, job_id)
    job = look(resources, job_id)
    assert (job.state, job.error, job.finished_at) == ("queued", None, None)
    job = claim(resources)
    assert job is not None
    assert job.fence == 2


@pytest.mark.parametrize("allowed", [False, True])
def test_a_waiting_job_is_refused_a_dataset_that_lost_a_class(
    resources: Resources, *, allowed: bool
) -> None:
    config = {"allow_lost_classes": allowed}
    with resources.database.write() as session:
        dataset = datasets.create(session, name="birds", upload="uploads/x", metadata={})
        ingest = jobs.submit(session, kind="ingest", config={}, dataset_id=dataset.id)
        options: dict[str, Any] = {"kind": "finetune", "dataset_id": dataset.id, "waits": True}
        tune_id = jobs.submit(session, config=config, **options).id
        elsewhere_id = jobs.submit(session, config=config, dataset_version=7, **options).id
        ingest_id = ingest.id
    assert claim(resources) is not None
    summary = {"lost_classes": {"owl": {"not_an_image": 6}}}
    with resources.database.write() as session:
        place = {"digest": "d", "prefix": "datasets/x/1"}
        datasets.publish(session, dataset, number=1, summary=summary, **place)
        leases.succeed(session, ingest_id, 1, {})
    tune, elsewhere = look(resources, tune_id), look(resources, elsewhere_id)
    assert elsewhere.error is not None
    assert elsewhere.error["code"] == "dataset_not_found"
    if allowed:
        assert (tune.state, tune.dataset_version) == ("queued", 1)
        return
    assert tune.error is not None
    assert (tune.state, tune.error["code"]) == ("failed", "classes_lost")
    assert "owl (6 x not_an_image)" in tune.error["message"]
    with resources.database.write() as session, pytest.raises(ClassesLost):
        jobs.retry(session, tune_id)
    assert look(resources, tune_id).state == "failed"


@pytest.mark.parametrize("outcome", ["ready", "failed", "cancelled"])
def test_waiting_jobs_follow_their_dataset(resources: Resources, outcome: str) -> None:
    with resources.database.write() as session:
        dataset = datasets.create(session, name="pets", upload="uploads/x", metadata={})
        session.flush()
        ingest = jobs.submit(session, kind="ingest", config={}, dataset_id=dataset.id)
        tune = jobs.submit(session, kind="finetune", config={}, dataset_id=dataset.id, waits=True)
        ingest_id, tune_id = ingest.id, tune.id
    job = claim(resources)
    assert job is not None
    assert job.id == ingest_id
    assert claim(resources) is None
    with resources.database.write() as session:
        if outcome == "ready":
            datasets.publish(
                session, dataset, number=1, digest="d", prefix="datasets/x/1", summary={}
            )
            leases.succeed(session, ingest_id, 1, {})
        elif outcome == "failed":
            error = {"code": "too_few_classes", "message": "one class", "param": None}
            leases.fail(session, ingest_id, 1, error)
        else:
            leases.cancelled(session, ingest_id, 1)
    tune = look(resources, tune_id)
    if outcome == "ready":
        assert (tune.state, tune.dataset_version) == ("queued", 1)
    else:
        assert tune.state == "failed"
        assert tune.error is not None
        code = "too_few_classes" if outcome == "failed" else "dataset_invalid"
        assert tune.error["code"] == code


def test_delete_wants_an_ended_job(resources: Resources) -> None:
    job_id = submit(resources)
    with resources.database.write() as session, pytest.raises(StateConflict):
        jobs.delete(session, job_id)
    with resources.database.write() as session:
        jobs.cancel(session, job_id)
        jobs.delete(session, job_id)
    with pytest.raises(JobNotFound):
        look(resources, job_id)


def test_queue_position_counts_what_runs_before(resources: Resources) -> None:
    first, second = submit(resources), submit(resources)
    high = submit(resources, priority="high")
    with resources.database.read() as session:
        positions = [
            jobs.queue_position(session, jobs.get(session, job)) for job in (first, second, high)
        ]
    assert positions == [1, 2, 0]


def test_short_kinds_have_a_queue_of_their_own(resources: Resources) -> None:
    training, short = submit(resources), submit(resources, kind="ingest")
    with resources.database.read() as session:
        assert jobs.queue_position(session, jobs.get(session, short)) == 0
        for lane, expected in ((Lane.LONG, training), (Lane.SHORT, short), (None, training)):
            found = leases.best(session, lane)
            assert found is not None
            assert found.id == expected
        assert leases.best(session, Lane.SHORT, besides=[short]) is None
