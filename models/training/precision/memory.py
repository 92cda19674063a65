"""Stored verdicts: a resumed run goes on with its own, and runs with one seed should agree.

Timings vary. So a verdict lies beside the checkpoints, for later attempts, and in the cache of this
machine, for later runs, unless it holds for this run only.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from core.system.atomic_files import write_atomically
from models.compute.execution import Execution
from models.training.precision.workload import Workload


class Verdict(NamedTuple):
    """The fields of an execution that win, and whether other runs may count on it.

    On a busy machine there may have been no time for every candidate, or no memory.
    """

    choice: dict[str, Any]
    whole: bool


class Memory:
    """The verdict on one workload, in the folder of the run and in one that later runs share."""

    def __init__(
        self, usual: Execution, workload: Workload, own: Path, shared: Path | None
    ) -> None:
        plan = workload.plan
        frozen = "features" if workload.forward else plan.batch_norm
        name = workload.network.architecture.name
        shape = [name, plan.image_size, plan.batch_size, plan.optimizer, frozen]
        self.key = json.dumps([shape, usual.facts(), workload.compiler], sort_keys=True)
        name = f"execution-{sha256(self.key.encode()).hexdigest()[:16]}.json"
        self.files = [folder / name for folder in (own, shared) if folder]

    def recall(self) -> Verdict | None:
        """Return what is known; None when there is nothing, or nothing that can be read."""
        return next((verdict for file in self.files if (verdict := self._read(file))), None)

    def keep(self, verdict: Verdict) -> None:
        """Write a verdict wherever it is not known yet and counts."""
        text = json.dumps({"key": self.key, **verdict._asdict()}).encode()
        for file in self.files if verdict.whole else self.files[:1]:
            if self._read(file) != verdict:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, text)

    def _read(self, file: Path) -> Verdict | None:
        try:
            content = json.loads(file.read_text("utf-8"))
            verdict = Verdict(content["choice"], content["whole"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return verdict if content["key"] == self.key else None
