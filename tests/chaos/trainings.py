"""A bench whose jobs are real trainings of LeNet on twelve images."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.domain import datasets, jobs
from core.store.tables import Dataset
from tests.app.apiclient import publish_dataset
from tests.worker.conftest import Bench
from topwork.types.finetune import FinetuneRequest

LEASE, SWEEP = 3.0, 1.0


@contextmanager
def training(
    make_bench: Callable[..., Any], folder: Path, **changes: Any
) -> Iterator[tuple[Bench, Dataset]]:
    """A bench for real trainers, and twelve images for them; no death counts against a job."""
    short = {"lease_seconds": LEASE, "heartbeat_seconds": 0.5, "sweep_seconds": SWEEP} | changes
    many = {"max_attempts": 100, "max_losses": 1000}
    with make_bench(warm_start=True, cancel_grace_seconds=8.0, **many, **short) as bench:
        dataset = publish_dataset(bench.resources, folder / "pets")
        with bench.resources.database.read() as session:
            version = datasets.version(session, dataset.id)
        summary = json.dumps(version.summary).encode()
        bench.resources.storage.put_bytes(f"{version.prefix}/dataset.json", summary)
        yield bench, dataset


def order(
    bench: Bench, dataset: Dataset, name: str, epochs: int, *, batch: int = 2, devices: int = 1
) -> str:
    wanted = FinetuneRequest.model_validate(
        {
            "dataset": dataset.id,
            "architecture": "lenet",
            "weights": "none",
            "augmentation": "strong",
            "hyperparameters": {"epochs": epochs, "batch_size": batch},
            "devices": devices,
            "early_stopping": None,
        }
    )
    with bench.resources.database.write() as session:
        return jobs.submit(
            session,
            kind="finetune",
            config={"name": name, **wanted.train_config()},
            dataset_id=dataset.id,
            dataset_version=1,
        ).id


def digest(bench: Bench, job_id: str, timeout: float = 240) -> str:
    """Wait until a job has succeeded; return the hash of what it published."""
    job = bench.reaches(job_id, "succeeded", "failed", timeout=timeout)
    assert job.state == "succeeded", job.error
    return bench.published(job_id)[0].digest


def reasons(bench: Bench, job_id: str) -> list[str]:
    """Return why each attempt of a job but its last ended."""
    return [event.data["reason"] for event in bench.events(job_id) if event.data.get("reason")]
