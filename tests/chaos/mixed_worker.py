"""The fake worker, and two things that only chaos asks of it.

An `evaluate` job runs `tests.chaos.hungry`, which wants more memory than there is. A fine-tuning
job with `{"hold": "blind"}` waits before it publishes until `go` exists in the gate folder and
looks at nothing else, so that only the database can refuse what it publishes.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from core.domain import leases
from core.store.resources import Resources
from core.store.tables import Job
from core.system import log
from core.system.settings import Settings
from tests.worker import fake_worker
from worker.__main__ import serve
from worker.kinds.finetune import FINETUNE
from worker.kinds.kind import Check, Work


def stage(_resources: Resources, job: Job, _folder: Path, _check: Check) -> dict[str, Any]:
    return job.config


def publish(resources: Resources, job: Job, _folder: Path, _check: Check) -> None:
    with resources.database.write() as session:
        leases.succeed(session, job.id, job.fence, {})


def publish_blindly(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    if job.config.get("hold") != "blind":
        return fake_worker.publish(resources, job, folder, check)
    while not (Path(job.config["gate"]) / "go").exists():
        time.sleep(0.01)
    return FINETUNE.publish(resources, job, folder, lambda: None)


if __name__ == "__main__":
    log.configure(json=True)
    works = {
        "finetune": dataclasses.replace(
            FINETUNE,
            module="tests.worker.fake_child",
            stage=fake_worker.stage,
            publish=publish_blindly,
        ),
        "evaluate": Work("tests.chaos.hungry", stage, publish),
    }
    serve(Settings(), int(sys.argv[2]), works)
