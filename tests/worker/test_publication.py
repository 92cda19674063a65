"""Workers killed while they publish: nothing half is visible, and in the end there is one version.

Each test kills the first worker at one point of its publication, looks at what it left, and lets a
second one finish: on SQLite and a folder, and in `make chaos` on Postgres and S3.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.domain import datasets, registry
from core.store.migrate import upgrade
from core.store.tables import DatasetVersion
from core.system.failpoints import VARIABLE
from tests.invariants import broken, broken_after_tidying
from tests.worker.conftest import Bench
from tests.worker.kinds.test_ingest import archive, order
from topwork.errors import DatasetNotReady, ModelNotFound

# A model is two files; an ingestion stores the three of its version first, then the shard.
OF_MODEL = ["storage.between_files", "storage.between_files@2", "publish.before_commit"]
OF_DATASET = ["storage.between_files", "storage.between_files@4", "publish.before_commit"]
AFTER = "publish.after_commit"
FAKE = "tests.worker.fake_worker"


@pytest.fixture(
    params=["local", pytest.param("remote", marks=[pytest.mark.chaos, pytest.mark.nightly])]
)
def mortal(
    request: pytest.FixtureRequest, make_bench: Callable[..., Any], tmp_path: Path
) -> Callable[..., Any]:
    """A bench whose first worker dies at a point, on either pair of stores."""
    places = {}
    if request.param == "remote":
        places = {
            "database_url": request.getfixturevalue("postgres"),
            "storage_url": request.getfixturevalue("s3"),
        }
        upgrade(places["database_url"])

    @contextmanager
    def opened(point: str) -> Iterator[Bench]:
        name, _, visit = point.partition("@")
        death = f"{name}=kill@{visit or 1}?{tmp_path / 'died'}"
        with make_bench(lease_seconds=3.0, **places) as bench:
            bench.environment[VARIABLE] = death
            yield bench
            assert (tmp_path / "died").exists()

    return opened


def dies(bench: Bench, module: str = FAKE) -> None:
    """Start the worker that kills itself while it publishes, and wait until it has."""
    bench.worker(module=module)
    assert bench.workers[0].wait(60) == -signal.SIGKILL


def tidied(bench: Bench) -> None:
    """End the workers; one collection later nothing may be left of what was broken off."""
    bench.stop()
    assert not broken_after_tidying(bench.resources)


def succeeds(bench: Bench, job_id: str, attempt: int) -> None:
    job = bench.reaches(job_id, "succeeded", "failed", timeout=60)
    assert (job.state, job.attempt, job.fence) == ("succeeded", attempt, attempt), job.error
    assert bench.states(job_id).count("succeeded") == 1


def calm_model(bench: Bench) -> str:
    """Return the digest of the same training without any death."""
    job_id = bench.submit(name="calm")
    succeeds(bench, job_id, 1)
    return bench.published(job_id)[0].digest


@pytest.mark.parametrize("point", OF_MODEL)
def test_a_model_whose_publication_broke_off_is_not_there_and_comes_once(
    mortal: Callable[..., Any], point: str
) -> None:
    with mortal(point) as bench:
        storage = bench.resources.storage
        job_id = bench.submit(name="cats")
        dies(bench)
        assert storage.list(f"models/{job_id}/1"), "it died before it stored anything"
        with bench.resources.database.read() as session, pytest.raises(ModelNotFound):
            registry.resolve(session, "cats")
        assert bench.job(job_id).state == "running"
        assert not broken(bench.resources)
        bench.worker()
        succeeds(bench, job_id, 2)
        (version,) = bench.published(job_id)
        assert (version.number, version.prefix) == (1, f"models/{job_id}/2")
        assert version.digest == calm_model(bench)
        tidied(bench)
        assert not storage.list(f"models/{job_id}/1")


def test_a_worker_killed_after_it_published_a_model_leaves_nothing_to_do(
    mortal: Callable[..., Any],
) -> None:
    with mortal(AFTER) as bench:
        job_id = bench.submit(name="cats")
        dies(bench)
        succeeds(bench, job_id, 1)
        (version,) = bench.published(job_id)
        bench.worker()
        assert version.digest == calm_model(bench)
        succeeds(bench, job_id, 1)
        assert [one.id for one in bench.published(job_id)] == [version.id]
        tidied(bench)


def calm_dataset(bench: Bench) -> str:
    """Return the digest of the same archive ingested without any death."""
    dataset_id, job_id, _ = order(bench, archive("cat", "dog"))
    succeeds(bench, job_id, 1)
    (version,) = versions_of(bench, dataset_id)
    return version.digest


def versions_of(bench: Bench, dataset_id: str) -> list[DatasetVersion]:
    with bench.resources.database.read() as session:
        return datasets.versions(session, dataset_id)


@pytest.mark.parametrize("point", OF_DATASET)
def test_a_dataset_whose_publication_broke_off_is_not_there_and_comes_once(
    mortal: Callable[..., Any], point: str
) -> None:
    with mortal(point) as bench:
        storage = bench.resources.storage
        dataset_id, job_id, waiting_id = order(bench, archive("cat", "dog"))
        dies(bench, "worker")
        assert storage.list(f"datasets/{dataset_id}/1/1"), "it died before it stored anything"
        with bench.resources.database.read() as session, pytest.raises(DatasetNotReady):
            datasets.version(session, dataset_id)
        assert bench.job(waiting_id).state == "waiting"
        assert not broken(bench.resources)
        bench.worker(module="worker")
        succeeds(bench, job_id, 2)
        (version,) = versions_of(bench, dataset_id)
        assert version.prefix == f"datasets/{dataset_id}/1/2"
        assert bench.reaches(waiting_id, "failed").dataset_version == 1
        assert version.digest == calm_dataset(bench)
        tidied(bench)
        assert not storage.list(f"datasets/{dataset_id}/1/1")


def test_a_worker_killed_after_it_published_a_dataset_leaves_its_archive_to_the_collector(
    mortal: Callable[..., Any],
) -> None:
    with mortal(AFTER) as bench:
        storage = bench.resources.storage
        dataset_id, job_id, waiting_id = order(bench, archive("cat", "dog"))
        dies(bench, "worker")
        succeeds(bench, job_id, 1)
        (version,) = versions_of(bench, dataset_id)
        assert storage.list("uploads")
        bench.worker(module="worker")
        assert bench.reaches(waiting_id, "failed").dataset_version == 1  # It ran; nobody knows it.
        succeeds(bench, job_id, 1)
        tidied(bench)
        assert not storage.list("uploads")
        assert [one.digest for one in versions_of(bench, dataset_id)] == [version.digest]
