"""Accuracy over seeds: python bench/seeds.py [ARCHIVE.zip] [--strategy head] [--seeds 5].

Runs `python -m models.train` on the archive once for each seed, with everything else automatic, and
prints the validation accuracy of the kept model and the seconds of the whole process. Each run has
an empty cache. Weights are those of TOPWORK_WEIGHTS_DIR; without any the figures mean nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import plain


def train(folder: Path, architecture: str, strategy: str, seed: int) -> tuple[float, float, str]:
    """Train once; return validation accuracy, seconds and the stage that was kept."""
    run = Path(tempfile.mkdtemp(dir=folder))
    request = {
        "config": {"architecture": architecture, "strategy": strategy, "seed": seed},
        "dataset": str(folder / "ingest" / "result"),
        "weights_dir": str(folder / "weights"),
        "offline": True,
    }
    (run / "request.json").write_text(json.dumps(request))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "models.train", str(run)], check=True)
    seconds = time.perf_counter() - began
    best = json.loads((run / "result" / "history.json").read_text())["best"]
    return best["val_accuracy"], seconds, best["stage"]


def main() -> None:
    """Print each run, then medians with their range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=plain.SHARED)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--strategy", default="head")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print(plain.machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain.prepare(asked.archive, folder, asked.architecture)
        runs = []
        for seed in range(1, asked.seeds + 1):
            runs.append(train(folder, asked.architecture, asked.strategy, seed))
            accuracy, seconds, stage = runs[-1]
            print(f"seed {seed}: {accuracy:.4f} in {seconds:.1f} s, kept {stage}", flush=True)
    for what, values, digits in (
        ("validation accuracy", [run[0] for run in runs], 4),
        ("seconds", [run[1] for run in runs], 1),
    ):
        middle = f"{statistics.median(values):.{digits}f}"
        print(f"{what}: {middle} ({min(values):.{digits}f} to {max(values):.{digits}f})")


if __name__ == "__main__":
    main()
