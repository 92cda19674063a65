"""Compare our epochs with bare steps: python bench/step_ceiling.py [ARCHIVE.zip].

A bare step is forward, backward and optimiser on one batch that lies ready, in the same arithmetic
and on the same network. Ours is `Loop.epoch`: augmentation, schedule, progress and the
checkpoints that fall due included, decoding and validation not. The two take turns in one process.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional

from bench import engine, plain
from models.compute import execution
from models.networks.head import logits_of
from models.training.loop import Loop


def bare(loop: Loop, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    """Take one step and nothing else."""
    with loop.fit.execution.autocast():
        logits, _ = logits_of(loop.model(inputs))
    loop.optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(logits.float(), labels).backward()
    loop.optimizer.step()


def main() -> None:
    """Print both rates and the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=plain.SHARED)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain.prepare(asked.archive, folder, asked.architecture)
        execution.keep_memory()
        loop = engine.loop_of(folder, asked.architecture, plain.BATCH)
        print(plain.machine())
        indices = engine.cut(loop, 1)[0]
        inputs = loop.fit.execution.put(loop.train.batch(indices, 1))
        labels = loop.train.labels[torch.from_numpy(indices)]
        loop.model.train()
        bare(loop, inputs, labels)
        rates: dict[str, list[float]] = {"bare": [], "topwork": []}
        for number in range(asked.rounds):
            progress = loop.progress
            progress.epoch, progress.step, progress.seen = number + 1, 0, 0
            started = time.perf_counter()
            loop.epoch()
            rates["topwork"].append(progress.seen / (time.perf_counter() - started))
            started = time.perf_counter()
            for _ in range(loop.steps):
                bare(loop, inputs, labels)
            rates["bare"].append(loop.steps * len(labels) / (time.perf_counter() - started))
    print(
        f"{asked.architecture}, {loop.fit.execution.arithmetic}, n = {asked.rounds} epochs in turns"
    )
    for side, all_ in rates.items():
        spread = f"{min(all_):.1f} to {max(all_):.1f}"
        print(f"  {side:8}{statistics.median(all_):7.1f} images/s ({spread})")
    shares = [b / a for a, b in zip(*rates.values(), strict=True)]
    middle, spread = statistics.median(shares), f"{min(shares):.3f} to {max(shares):.3f}"
    print(f"  share {middle:.3f} ({spread})")


if __name__ == "__main__":
    main()
