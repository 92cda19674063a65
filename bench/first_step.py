"""Time from POST /finetune to the first optimiser step: python bench/first_step.py [repeats].

Two whole services, one with warm starts and one without, take turns: LeNet-5 from scratch on 200
digits that have been ingested before. The trainer's own events, read from its run directory every
2 ms, tell when it speaks for the first time (imports done, nothing read yet) and when it has done
its first step.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.demo.main_job import Stopwatch, service
from app.demo.samples import digits
from core.system.machine import cores
from core.system.settings import Settings
from topwork import Topwork

CONFIG: dict[str, Any] = {
    "architecture": "lenet",
    "weights": "none",
    "hyperparameters": {"epochs": 1},
    "early_stopping": None,
}
IMAGES = 200
PATIENCE = 300.0
MOMENTS = {"accepted": b"", "trainer speaks": b'"phase"', "first step": b'"step"'}


@dataclass(frozen=True)
class Arm:
    """One of the two services with its dataset."""

    name: str
    folder: Path
    topwork: Topwork
    dataset: str


@contextlib.contextmanager
def running(folder: Path, images: Path, *, warm: bool) -> Iterator[Arm]:
    """Start a service, ingest the images and run one job, so that later ones find all in place."""
    os.environ["TOPWORK_WARM_START"] = str(warm)
    with service(folder, Settings(data_dir=folder), Stopwatch()) as topwork:
        job = topwork.finetune(images, name="bench", **CONFIG)
        job.wait()
        until = time.monotonic() + PATIENCE
        while warm and "forkserver.ready" not in (folder / "log.txt").read_text():
            assert time.monotonic() < until, "no forkserver"
            time.sleep(0.1)
        dataset = next(topwork.datasets.list()).id
        yield Arm("warm" if warm else "cold", folder, topwork, dataset)


def measure(arm: Arm) -> tuple[dict[str, float], str]:
    """Run one job; return the seconds from its POST to each moment, and its weights' digest."""
    began = time.perf_counter()
    job = arm.topwork.finetune(dataset=arm.dataset, name="bench", **CONFIG)
    seconds = {"accepted": time.perf_counter() - began}
    while len(seconds) < len(MOMENTS):
        assert time.perf_counter() - began < PATIENCE, job.refresh().state
        told = b"".join(p.read_bytes() for p in arm.folder.glob(f"runs/{job.id}/*/events.jsonl"))
        for name, sign in MOMENTS.items():
            if sign in told and told:
                seconds.setdefault(name, time.perf_counter() - began)
        time.sleep(0.002)
    result = job.wait().result
    assert result is not None
    return seconds, str(result["digest"])


def main() -> None:
    """Print one table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        every = sorted(digits(place / "digits").rglob("*.png"), key=lambda path: path.name)
        for path in every[IMAGES:]:
            path.unlink()
        with (
            running(place / "warm", place / "digits", warm=True) as warm,
            running(place / "cold", place / "digits", warm=False) as cold,
        ):
            rounds = [(measure(warm), measure(cold)) for _ in range(repeats)]
    assert len({digest for both in rounds for _, digest in both}) == 1, "not the same weights"
    print(f"{cores()} cores, n = {repeats} in turns, seconds after POST: median (least to most)")
    for name in MOMENTS:
        words = []
        for arm, runs in zip(("warm", "cold"), zip(*rounds, strict=True), strict=True):
            all_ = [run[name] for run, _ in runs]
            middle = statistics.median(all_)
            words.append(f"{arm} {middle:6.2f} ({min(all_):.2f} to {max(all_):.2f})")
        print(f"{name:15}", "   ".join(words))


if __name__ == "__main__":
    main()
