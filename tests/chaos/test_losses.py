"""T30: the worker is killed ten times in each phase of a job, which succeeds once all the same."""

from pathlib import Path

import pytest
from sqlalchemy import update

from core.domain import datasets
from core.store.tables import Job
from core.system import failpoints
from tests.app.apiclient import publish_dataset
from tests.chaos import trainings
from tests.chaos.conftest import TIMES, Tell
from tests.waiting import wait_for
from tests.worker.conftest import Bench
from tests.worker.kinds import test_ingest as ingestions

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
KILLS = 10 if TIMES >= 1 else 4  # Each more than the crashes that make a job poison.
# Where a phase is held up, in the worker or in the child.
INGESTION = {
    "preparing": "stage.begin",
    "decoding": "ingest.after_image",
    "publishing": "storage.between_files",
}
TRAINING = {
    "preparing": "stage.begin",
    "training": "train.step",
    "evaluating": "evaluate.split",
    "publishing": "storage.between_files",
}


def kill_in_each_phase(bench: Bench, job_id: str, phases: dict[str, str]) -> Job:
    """Lose a worker KILLS times in each phase, then let one end the job."""
    attempt = 0
    for phase, point in phases.items():
        bench.environment[failpoints.VARIABLE] = f"{point}=hang"
        for _ in range(KILLS):
            attempt += 1
            worker = bench.worker(module="worker")
            wait_for(lambda: is_in(bench, job_id, attempt, phase), 120)  # noqa: B023 - at once.
            worker.kill()
            worker.wait(10)
    del bench.environment[failpoints.VARIABLE]
    bench.worker(module="worker")
    wait_for(lambda: is_in(bench, job_id, attempt + 1, None), 120)
    return bench.job(job_id)


def is_in(bench: Bench, job_id: str, attempt: int, phase: str | None) -> bool:
    """Tell whether an attempt has come so far; nobody waits for a pause to be over here."""
    with bench.resources.database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(not_before=None))
    job = bench.job(job_id)
    assert job.state != "failed", job.error
    ended = phase is None and job.state == "succeeded"
    return job.attempt == attempt and (ended or (phase is not None and job.phase == phase))


@pytest.mark.nightly
def test_an_ingestion_outlives_the_loss_of_every_worker(bench: Bench, tell: Tell) -> None:
    dataset_id, job_id, _ = ingestions.order(bench, ingestions.archive("cat", "dog"))
    job = kill_in_each_phase(bench, job_id, INGESTION)
    assert (job.attempt, job.stalls) == (KILLS * len(INGESTION) + 1, 0)
    with bench.resources.database.read() as session:
        assert [one.number for one in datasets.versions(session, dataset_id)] == [1]
    tell(f"T30 ingestion: {job.attempt - 1} workers killed, {KILLS} in each of {list(INGESTION)}")


@pytest.mark.nightly
def test_a_training_outlives_the_loss_of_every_worker(
    bench: Bench, tmp_path: Path, tell: Tell
) -> None:
    dataset = publish_dataset(bench.resources, tmp_path / "pets")
    job_id = trainings.order(bench, dataset, "pets", epochs=3)
    job = kill_in_each_phase(bench, job_id, TRAINING)
    assert (job.attempt, job.stalls) == (KILLS * len(TRAINING) + 1, 0)
    assert len(bench.published(job_id)) == 1
    tell(f"T30 training: {job.attempt - 1} workers killed, {KILLS} in each of {list(TRAINING)}")
