"""One kill of each kind in one small run; `make chaos` has the dozens."""

import random
from pathlib import Path
from typing import Any

from tests.chaos.killing import REACHED, killed, new_run, outcome, pictures, tear, trainers

CONFIG: dict[str, Any] = {
    "architecture": "lenet",
    "augmentation": "standard",
    "hyperparameters": {"epochs": 2, "batch_size": 8},
}


PARTS = ("cache.", "", "evaluate.", "result.")


def turn(point: str) -> tuple[int, bool]:
    """Return when its kill comes: images are decoded once, and what is trained may stay so."""
    parts = [number for number, part in enumerate(PARTS) if part and point.startswith(part)]
    return parts[0] if parts else PARTS.index(""), "after" in point


def test_a_run_killed_once_at_each_point_ends_with_the_same_bits(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", each=8, side=32, classes=3)
    straight, broken = (new_run(tmp_path / name, data, CONFIG) for name in ("a", "b"))
    rng = random.Random(0)  # noqa: S311 - repeatable.
    with trainers() as ready:
        ready.finish(straight)
        for point in sorted(REACHED, key=turn):
            ended = ready.attempt(broken, failpoints=f"{point}=kill")
            assert killed(ended), point
            tear(broken, rng)
        ready.finish(broken)
    assert outcome(broken) == outcome(straight)
