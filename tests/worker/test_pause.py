"""A job that rests keeps its checkpoint, frees its worker, and goes on where it stopped."""

from core.domain import jobs
from core.store.tables import Job
from tests.waiting import wait_for
from tests.worker.conftest import Bench, living


def ask(bench: Bench, verb: str, job_id: str) -> Job:
    with bench.resources.database.write() as session:
        act = {"pause": jobs.pause, "resume": jobs.resume, "cancel": jobs.cancel}[verb]
        return act(session, job_id)


def test_a_running_job_rests_and_goes_on_from_its_checkpoint(calm: Bench) -> None:
    job_id = calm.submit({2: "wait"})
    calm.wait("waiting")
    ask(calm, "pause", job_id)
    paused = calm.reaches(job_id, "paused")
    assert (paused.worker, paused.phase, paused.stalls) == (None, None, 0)
    wait_for(lambda: not living(calm.gate))
    other = calm.submit(steps=1, name="other")  # The worker is free for it.
    assert calm.reaches(other, "succeeded", "failed").state == "succeeded"
    assert calm.job(job_id).state == "paused"
    calm.go()
    ask(calm, "resume", job_id)
    calm.settles(job_id)
    assert calm.states(job_id) == ["queued", "running", "paused", "queued", "running", "succeeded"]
    epochs = [event.data["epoch"] for event in calm.events(job_id) if event.kind == "epoch"]
    assert epochs == [1, 2, 3]
    log = calm.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    assert "starts at step 1" in log


def test_a_pause_is_withdrawn_or_turned_into_a_cancel(calm: Bench) -> None:
    job_id = calm.submit({2: "ignore_and_wait"})
    calm.wait("waiting")
    ask(calm, "pause", job_id)
    ask(calm, "cancel", job_id)
    assert calm.reaches(job_id, "cancelled", "succeeded", "paused").state == "cancelled"


def test_a_job_that_is_lost_while_it_pauses_rests(calm: Bench) -> None:
    job_id = calm.submit({2: "crash", 1: "wait"})
    calm.wait("waiting")
    ask(calm, "pause", job_id)
    assert calm.reaches(job_id, "paused", "succeeded", "failed").state == "paused"
    calm.go()
    ask(calm, "resume", job_id)
    assert calm.reaches(job_id, "succeeded", "failed").state == "succeeded"
