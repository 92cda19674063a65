"""Compare our epochs with bare steps: python bench/step_ceiling.py [ARCHIVE.zip].

A bare step is forward, backward and optimiser on one batch that lies ready, in the same arithmetic
and on the same network. Ours is `Fit.one_epoch`: augmentation, schedule, progress and the
checkpoints that fall due included, decoding and validation not. The two take turns in one process.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import engine
import plain
import torch
from torch.nn import functional

from models.compute import execution
from models.networks.head import logits_of


def bare(own: engine.Engine, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    """Take one step and nothing else."""
    with own.how.autocast():
        logits, _ = logits_of(own.fit.task.model(inputs))
    own.fit.optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(logits.float(), labels).backward()
    own.fit.optimizer.step()


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
        own = engine.Engine.of(folder, asked.architecture, plain.BATCH)
        print(plain.machine())
        indices = own.cut(1)[0]
        inputs = own.how.put(own.fit.task.train.batch(indices, 1))
        labels = own.fit.task.train.labels[torch.from_numpy(indices)]
        own.fit.task.model.train()
        bare(own, inputs, labels)
        rates: dict[str, list[float]] = {"bare": [], "topwork": []}
        for number in range(asked.rounds):
            own.fit.now.epoch, own.fit.now.step, own.fit.now.seen = number + 1, 0, 0
            started = time.perf_counter()
            own.fit.one_epoch()
            rates["topwork"].append(own.fit.now.seen / (time.perf_counter() - started))
            steps = own.fit.steps
            started = time.perf_counter()
            for _ in range(steps):
                bare(own, inputs, labels)
            rates["bare"].append(steps * len(labels) / (time.perf_counter() - started))
    print(f"{asked.architecture}, {own.how.arithmetic}, n = {asked.rounds} epochs in turns")
    for side, all_ in rates.items():
        spread = f"{min(all_):.1f} to {max(all_):.1f}"
        print(f"  {side:8}{statistics.median(all_):7.1f} images/s ({spread})")
    shares = [b / a for a, b in zip(*rates.values(), strict=True)]
    middle, spread = statistics.median(shares), f"{min(shares):.3f} to {max(shares):.3f}"
    print(f"  share {middle:.3f} ({spread})")


if __name__ == "__main__":
    main()
