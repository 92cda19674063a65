"""Compare head-only runs with the plain recipe: python bench/head_only.py [ARCHIVE.zip].

The plain recipe (`bench/plain.py`, frozen trunk) is timed for `--plain-epochs` and scaled to 10
epochs, its construction counted once. Topwork's side is the whole of `python -m models.train` on
the ingested archive: first with an empty cache, then as another job on the same images and trunk,
and as that job in a process that has done its imports, as a worker's warm start gives it. The
floor is decoding on all cores, plus one forward pass in fp32, over the same images. The weights
are those of TOPWORK_WEIGHTS_DIR, or random where there are none (then only times mean something).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench import plain
from core.system.machine import cores
from models.data.dataset import ACCEPTED, StagedDataset
from models.inference.eager import forward
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.networks.head import find, split

EPOCHS = 10
WARM = (
    "import sys; from core.system.run_dir import supervise; from models.train import train;"
    "print('ready', flush=True);"
    "sys.exit(supervise(train, [sys.stdin.readline().strip()], resumable=True))"
)
SIDES = ("plain recipe", "first job", "second job", "second, warm", "floor")


def plain_side(folder: Path, architecture: str, epochs: int) -> tuple[float, float]:
    """Return the seconds of ten epochs and the best validation accuracy of those that ran."""
    began = time.perf_counter()
    weights = folder / "weights" / f"{architecture}.safetensors"
    side = plain.Plain.of(folder / "plain", architecture, weights, frozen=True)
    built = time.perf_counter()
    best = plain.fit(side, epochs)
    return built - began + (time.perf_counter() - built) * EPOCHS / epochs, best


def ask(folder: Path, run: Path, architecture: str, cache: Path) -> Path:
    """Write a request."""
    run.mkdir()
    request = {
        "config": {"architecture": architecture, "strategy": "head"},
        "dataset": str(folder / "ingest" / "result"),
        "weights_dir": str(folder / "weights"),
        "offline": True,
        "cache_dir": str(cache),
    }
    (run / "request.json").write_text(json.dumps(request))
    return run


def cold(run: Path) -> float:
    """Return the seconds of a run from the start of its process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "models.train", str(run)], check=True)
    return time.perf_counter() - began


def warm(run: Path) -> float:
    """Return the seconds of a run in a process whose imports are done."""
    command = [sys.executable, "-c", WARM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdin is not None
        assert it.stdout is not None
        it.stdout.readline()
        began = time.perf_counter()
        it.stdin.write(f"{run}\n")
        it.stdin.close()
        assert it.wait() == 0
        return time.perf_counter() - began


def floor(folder: Path, architecture: str) -> float:
    """Return the seconds of decoding all images and of one forward pass over them."""
    staged = StagedDataset(folder / "ingest" / "result")
    prep = Preprocess.for_architecture(architecture)
    weights = folder / "weights" / f"{architecture}.safetensors"
    model = zoo.build(architecture, pretrained_state=weights).eval()
    trunk, _ = split(model.to(memory_format=torch.channels_last), find(model).main)
    samples = [*staged.splits["train"], *staged.splits["val"]]
    began = time.perf_counter()
    batches = list(
        staged.stream(
            samples, lambda data: prep.read(data, ACCEPTED), batch=plain.BATCH, threads=cores()
        )
    )
    for crops in batches:
        forward(trunk, prep.normalise(crops))
    seconds = time.perf_counter() - began
    staged.close()
    return seconds


def accuracy(run: Path) -> float:
    """Return the validation accuracy of a run."""
    scores = json.loads((run / "result" / "evaluation.json").read_text())
    return float(scores["val"]["accuracy"])


def measure(
    folder: Path, architecture: str, number: int, epochs: int
) -> tuple[dict[str, float], tuple[float, float]]:
    """Run every side once; return seconds by side and the two accuracies."""
    place = folder / f"{architecture}-{number}"
    place.mkdir()
    asked = [ask(folder, place / name, architecture, place / "cache") for name in "abc"]
    seconds, best = plain_side(folder, architecture, epochs)
    times = [seconds, cold(asked[0]), cold(asked[1]), warm(asked[2]), floor(folder, architecture)]
    cards = [json.loads((run / "result" / "card.json").read_text()) for run in asked]
    assert len({card["files"]["weights.safetensors"]["sha256"] for card in cards}) == 1
    return dict(zip(SIDES, times, strict=True)), (best, accuracy(asked[0]))


def spread(values: list[float], digits: int = 1) -> str:
    """Return median and range in words."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:7.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Print one table for each architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=plain.SHARED)
    parser.add_argument("--architectures", nargs="+", default=["resnet18", "vgg13", "mobilenet_v2"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain-epochs", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain.prepare(asked.archive, folder, *asked.architectures)
        print(f"{asked.archive.name}, {plain.machine()}, n = {asked.repeats}, median (range)")
        print(f"plain recipe: {asked.plain_epochs} epochs measured, scaled to {EPOCHS}")
        for architecture in asked.architectures:
            rounds = [
                measure(folder, architecture, number, asked.plain_epochs)
                for number in range(asked.repeats)
            ]
            print(f"\n{architecture}")
            for side in SIDES:
                print(f"{side:13} {spread([times[side] for times, _ in rounds])} s")
            for side in SIDES[1:4]:
                ratios = [times[SIDES[0]] / times[side] for times, _ in rounds]
                print(f"plain recipe / {side:13} {spread(ratios)}")
            rest = [times["first job"] - 1.5 * times["floor"] - 3 for times, _ in rounds]
            print(f"first job - (1.5 x floor + 3 s) {spread(rest)} s; the goal is below 0")
            pairs = zip(*(scores for _, scores in rounds), strict=True)
            best = [statistics.median(values) for values in pairs]
            print(f"validation accuracy: plain {best[0]:.3f}, topwork {best[1]:.3f}")


if __name__ == "__main__":
    main()
