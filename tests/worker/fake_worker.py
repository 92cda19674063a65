"""The real worker, except that its fine-tuning jobs run fake_child instead of a trainer.

A job's config may hold it in a phase of the worker's own: `{"hold": "staging"}` or
`"publishing"` waits until `go` exists in the gate folder.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from core.store.resources import Resources
from core.store.tables import Job
from core.system import log
from core.system.settings import Settings
from worker.__main__ import serve
from worker.kinds.finetune import WORK as FINETUNE
from worker.kinds.kind import Check
from worker.kinds.registry import WORKS


def stage(_resources: Resources, job: Job, _folder: Path, check: Check) -> dict[str, Any]:
    hold(job, "staging", check)
    return job.config


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    hold(job, "publishing", check)
    FINETUNE.publish(resources, job, folder, check)


def hold(job: Job, phase: str, check: Check) -> None:
    gate = Path(job.config["gate"])
    if job.config.get("hold") == phase:
        (gate / "waiting").touch()
        while not (gate / "go").exists():
            check()
            time.sleep(0.01)


if __name__ == "__main__":
    log.configure(json=True)
    child = dataclasses.replace(
        FINETUNE, module="tests.worker.fake_child", stage=stage, publish=publish
    )
    slots, grace = int(sys.argv[2]), float(sys.argv[4])
    serve(Settings(), slots, {**WORKS, "finetune": child}, grace)
