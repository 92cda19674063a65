"""The real worker for jobs that came over HTTP; only their trainer is fake_child.

Such a job knows no gate folder, so it is the one beside the data folder, as `bench` has it.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from core.store.resources import Resources
from core.store.tables import Job
from core.system import log
from core.system.settings import Settings
from worker.__main__ import serve
from worker.kinds.finetune import FINETUNE
from worker.kinds.kind import Check
from worker.runner import WORKS


def stage(resources: Resources, _job: Job, _folder: Path, _check: Check) -> dict[str, Any]:
    return {"steps": 2, "script": {}, "gate": str(resources.settings.data_dir.with_name("gate"))}


if __name__ == "__main__":
    log.configure(json=True)
    quick = dataclasses.replace(FINETUNE, module="tests.worker.fake_child", stage=stage)
    serve(Settings(), int(sys.argv[2]), {**WORKS, "finetune": quick})
