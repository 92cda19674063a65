"""Runs of the trainer that are killed again and again, and what must come out all the same."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.system.atomic_files import sha256
from core.system.failpoints import POINTS
from tests.models.staging import events, png, request, stage
from tests.waiting import wait_for
from worker.process.job_process import Ending, Exit, Process
from worker.process.prefork import WarmStart

MODULE = "tests.chaos.trainer"
PARTS = ("cache.", "durable.", "checkpoint.", "events.", "evaluate.", "result.", "train.")
REACHED = sorted(point for point in POINTS if point.startswith(PARTS))
TIMEOUT = 240.0


def pictures(folder: Path, *, each: int, side: int = 64, classes: int = 5) -> Path:
    """Stage noise whose colour is the class: `each` images to train on, a quarter to validate."""
    rng = np.random.default_rng(1)
    return stage(
        folder,
        [
            (split, f"class{label}", noise(rng, label, side))
            for split, count in (("train", each), ("val", each // 4))
            for label in range(classes)
            for _ in range(count)
        ],
    )


def noise(rng: np.random.Generator, label: int, side: int) -> bytes:
    base = np.array([40 * label, 200 - 40 * label, 128])
    return png((base + rng.normal(0, 60, (side, side, 3))).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Trainers:
    """Starts attempts warm, through the very process handling of the worker."""

    warm: WarmStart
    threads: int = 1
    timeout: float = TIMEOUT  # Seconds that an attempt may take.

    def attempt(
        self,
        run_dir: Path,
        *,
        failpoints: str = "",
        save_every: int = 1,
        kill_after: float | None = None,
        measured: bool = False,
    ) -> Exit:
        """Run one attempt, killed at a failpoint, after some seconds, or not at all."""
        orders = {"failpoints": failpoints, "save_every": save_every, "measured": measured}
        (run_dir / "orders.json").write_text(json.dumps(orders))
        until = time.monotonic() + self.timeout
        with Process(
            MODULE, run_dir, good_until=until, threads=self.threads, warm=self.warm
        ) as process:
            if kill_after is not None and process.wait(kill_after) is None:
                process.kill()
            return wait_for(lambda: process.wait(0.02), self.timeout)

    def finish(self, run_dir: Path, **orders: Any) -> None:
        """Run one attempt to its good end."""
        ended = self.attempt(run_dir, **orders)
        said = [run_dir / name for name in ("error.json", "log.txt")]
        assert ended.ending is Ending.DONE, [path.read_text() for path in said if path.exists()]


@contextmanager
def trainers(threads: int = 1, timeout: float = TIMEOUT) -> Iterator[Trainers]:
    """Import torch once; every attempt is a fork of that process."""
    with WarmStart({MODULE}, threads) as warm:
        wait_for(lambda: warm.pid, 120)
        yield Trainers(warm, threads, timeout)


def killed(ended: Exit) -> bool:
    """Tell a kill from a good end; anything else is neither."""
    assert ended.ending is Ending.DONE or str(ended) == "killed by SIGKILL", str(ended)
    return ended.ending is not Ending.DONE


def tear(run_dir: Path, rng: random.Random) -> None:
    """Cut what was being written when the process died, as a kill inside a write does."""
    for part in run_dir.rglob(".*.part"):
        with part.open("r+b") as file:
            file.truncate(rng.randrange(part.stat().st_size + 1))
    with (run_dir / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "epo'[: rng.randrange(14)])


def outcome(run_dir: Path) -> dict[str, Any]:
    """Return what no interruption may change; check that the history is whole."""
    result = run_dir / "result"
    card = json.loads((result / "card.json").read_text())
    history = json.loads((result / "history.json").read_text())
    assert card["exact"] == {"value": True, "reason": []}
    epochs = list(range(1, len(history["epochs"]) + 1))
    assert len(epochs) >= card["plan"]["epochs"]["value"]  # More where a second stage followed.
    assert [record["epoch"] for record in history["epochs"]] == epochs
    assert [event["epoch"] for event in events(run_dir, "epoch")] == epochs
    steps = [event["step"] for event in events(run_dir, "progress")]
    assert steps == sorted(steps)
    left = {path.name for path in run_dir.rglob("*.part")} | {"result.tmp", "cache"}
    assert not left & {path.name for path in run_dir.rglob("*")}
    return {
        "weights": sha256(result / "weights.safetensors"),
        "history": sha256(result / "history.json"),
        "best": history["best"],
        "files": card["files"],
    }


def new_run(folder: Path, data: Path, config: dict[str, Any]) -> Path:
    """Make a RUN_DIR; pretrained weights lie beside the data."""
    return request(folder, data, weights_dir=data.parent, **config)
