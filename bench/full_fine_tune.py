"""Compare full fine-tuning with the plain recipe: python bench/full_fine_tune.py [ARCHIVE.zip].

The plain recipe is that of `bench/plain.py`; ours is the engine's loop on decoded images, augmented
in batches, in the arithmetic that its benchmark chose. Each side is a process of its own, as memory
and thread settings belong to a process; they take turns, a few steps each, images decoded by the
plain side as its recipe does, and by ours once before. Random weights, as only speed is measured.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bench import engine, plain
from core.system.machine import cores
from models.compute import execution

NETWORKS = ("alexnet", "resnet18", "vgg13", "mobilenet_v3_large", "efficientnet_b0")
SMALLER = {"vgg13": 16}  # Images a step where 32 do not fit small machines.
Step = Callable[[], int]


def theirs(folder: Path, architecture: str, batch: int) -> tuple[Step, str]:
    """Return a step of the plain recipe, which tells how many images it took."""
    torch.set_num_threads(cores())
    weights = folder / "weights" / f"{architecture}.safetensors"
    recipe = plain.Plain.of(folder / "plain", architecture, weights, frozen=False, batch=batch)
    recipe.model.train()

    def forever() -> Iterator[int]:
        while True:
            for images, labels in recipe.train:
                recipe.step(images, labels)
                yield len(labels)

    return forever().__next__, "fp32, NCHW"


def ours(folder: Path, architecture: str, batch: int) -> tuple[Step, str]:
    """Return a step of the engine, which tells how many images it took."""
    execution.keep_memory()
    loop = engine.loop_of(folder, architecture, batch)
    loop.model.train()

    def forever() -> Iterator[int]:
        while True:
            loop.progress.step = 0
            for indices in engine.cut(loop, loop.progress.epoch):
                loop.step(indices)
                yield len(indices)
            loop.progress.epoch += 1

    return forever().__next__, f"{loop.fit.execution.arithmetic} ({loop.fit.execution.reason})"


SIDES = {"plain recipe": theirs, "topwork": ours}


def answer(side: str, folder: Path, architecture: str, batch: int) -> None:
    """Be one side: for each line of standard input take so many steps, tell images a second."""
    step, how = SIDES[side](folder, architecture, batch)
    step()  # Warm-up.
    print(json.dumps(how), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        images = sum(step() for _ in range(int(line)))
        print(json.dumps(images / (time.perf_counter() - started)), flush=True)


def measure(folder: Path, architecture: str, steps: int, rounds: int) -> None:
    """Let the two sides take turns; print a row for each, and the ratio."""
    batch = SMALLER.get(architecture, plain.BATCH)
    me = [sys.executable, __file__, "--folder", str(folder), "--architecture", architecture]
    children: dict[str, subprocess.Popen[str]] = {}
    how: dict[str, object] = {}

    def read(child: "subprocess.Popen[str]") -> object:
        assert child.stdout is not None
        return json.loads(child.stdout.readline())

    for side in SIDES:  # One has come to rest before the next begins: ours times candidates.
        children[side] = subprocess.Popen(
            [*me, "--side", side, "--batch", str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        how[side] = read(children[side])
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, child in children.items():
            assert child.stdin is not None
            child.stdin.write(f"{steps}\n")
            child.stdin.flush()
            rates[side].append(float(str(read(child))))
    for child in children.values():
        child.communicate()
    print(f"{architecture}, batch {batch}, {rounds} turns of {steps} steps")
    for side, all_ in rates.items():
        spread = f"{min(all_):.1f} to {max(all_):.1f}"
        print(f"  {side:13}{statistics.median(all_):7.1f} images/s ({spread})  {how[side]}")
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    middle, spread = statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"  ratio {middle:.2f} ({spread})", flush=True)


def main() -> None:
    """Measure one network after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=plain.SHARED)
    parser.add_argument("--architecture", action="append")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    networks = asked.architecture or NETWORKS
    if asked.side:
        answer(asked.side, asked.folder, networks[0], asked.batch)
        return
    torch.set_num_threads(cores())
    print(plain.machine())
    with tempfile.TemporaryDirectory() as name:
        plain.prepare(asked.archive, Path(name), *networks)
        for architecture in networks:
            measure(Path(name), architecture, asked.steps, asked.rounds)


if __name__ == "__main__":
    main()
