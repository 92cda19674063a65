"""Compare two checkouts, each with its own .venv: python bench/versions.py OLD [NEW] [--rounds N].

Each round runs every measurement once in each checkout, both in random order, and the table gives
the ratio new/old of each round: above 1 the new one is slower. The benches are each checkout's own.
"""

import argparse
import random
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SEED = 7


@dataclass(frozen=True)
class Number:
    """A number that a command prints, or the seconds that it takes.

    Args:
        pattern: Finds the number in what is printed; without one, the seconds count.
        rate: The number is images a second.
    """

    pattern: str | None = None
    rate: bool = False

    def of(self, printed: str, seconds: float) -> float:
        """Return what to compare, a rate as seconds an image."""
        if self.pattern is None:
            return seconds
        found = re.search(self.pattern, printed)
        assert found, printed
        return 1 / float(found[1]) if self.rate else float(found[1])


@dataclass(frozen=True)
class Command:
    """Arguments of a checkout's Python; of alternatives the first that works there is taken."""

    alternatives: list[list[str]]
    numbers: dict[str, Number]

    def run(self, checkout: Path) -> dict[str, float]:
        """Run once and return what to compare, by name."""
        for arguments in self.alternatives:
            began = time.perf_counter()
            done = subprocess.run(
                [checkout / ".venv" / "bin" / "python", *arguments],
                cwd=checkout,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.perf_counter() - began
            if done.returncode == 0:
                return {name: one.of(done.stdout, seconds) for name, one in self.numbers.items()}
        sys.exit(f"{self.alternatives} in {checkout}:\n{done.stderr[-2000:]}")


def importing(name: str, *modules: str) -> Command:
    """Import one module, by its names in different checkouts."""
    return Command([["-c", f"import {module}"] for module in modules], {name: Number()})


COMMANDS = [
    importing("import the api", "app.api.main", "app.main"),
    importing("import the predictor", "app.predictor.service", "app.predictor.serving"),
    importing("import the worker", "worker.tasks"),
    importing("import the trainer", "models.train"),
    Command([["-m", "app.cli", "--help"]], {"topwork --help": Number()}),
    Command(
        [["bench/first_step.py", "3"]],
        {
            "first step, warm": Number(r"first step +warm +([\d.]+)"),
            "first step, cold": Number(r"first step .*cold +([\d.]+)"),
        },
    ),
    Command(
        [["bench/step_ceiling.py", "--rounds", "2"]],
        {"train ResNet-18, images/s": Number(r"topwork +([\d.]+) images/s", rate=True)},
    ),
    Command(
        [["bench/ingest.py", "--repeats", "1"]],
        {"ingest, images/s": Number(r"ingest +([\d.]+) img/s", rate=True)},
    ),
]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, nargs="?")
    parser.add_argument("new", type=Path, nargs="?", default=Path())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="names that contain this text")
    asked = parser.parse_args()
    if asked.old is None:  # As `make bench` calls it.
        print("nothing to compare with: name another checkout")
        return
    chosen = [one for one in COMMANDS if any(asked.only in name for name in one.numbers)]
    values: dict[tuple[str, Path], list[float]] = {}
    orders = random.Random(SEED)  # noqa: S311 - not a secret.
    for _ in range(asked.rounds):
        turns = [(one, side) for one in chosen for side in (asked.old, asked.new)]
        orders.shuffle(turns)
        for one, side in turns:
            for name, value in one.run(side.absolute()).items():
                values.setdefault((name, side), []).append(value)
    print(f"n = {asked.rounds} rounds in random order, medians, new/old: median (least to most)")
    for name, number in [pair for one in chosen for pair in one.numbers.items()]:
        old, new = values[name, asked.old], values[name, asked.new]
        ratios = [b / a for a, b in zip(old, new, strict=True)]
        middle = [statistics.median(some) for some in (old, new)]
        shown = [f"{1 / value if number.rate else value:8.2f}" for value in middle]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{name:30} {' '.join(shown)}   {statistics.median(ratios):.3f} ({spread})")


if __name__ == "__main__":
    main()
