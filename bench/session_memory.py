"""What a loaded model holds by each account: python bench/session_memory.py [NETWORK ...].

Each network with two classes is published with its graph and loaded by ONNX Runtime over and over
in a process of its own, which also answers once. The proportional set size that it grows by each
time stands beside the size of the weights and what `OnnxEngine.nbytes` says for the model cache.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("lenet", "mobilenet_v2", "resnet50")
FIRST, COUNTED = 5, 20  # Loads before what they share is there, and those that are measured.
MEBIBYTE = 1024 * 1024


def held() -> float:
    """Return the memory of this process in MiB."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss:", "Swap:"))) / 1024


def measure(folder: Path) -> str:
    """Return the figures of the model in a folder."""
    from models.inference.classifier import Classifier  # noqa: PLC0415 - the path is set in main.

    loaded = []

    def load(times: int) -> float:
        for _ in range(times):
            classifier = Classifier.from_artefact(folder)
            side = classifier.preprocess.crop
            classifier.engine.outputs(np.full((1, 3, side, side), 128, np.uint8))
            loaded.append(classifier)
        return held()

    before = load(FIRST)
    grown = (load(COUNTED) - before) / COUNTED
    weights = (folder / "weights.safetensors").stat().st_size / MEBIBYTE
    counted = loaded[0].nbytes / MEBIBYTE
    return f"weights {weights:6.1f} MiB   held {grown:6.1f} MiB   counted {counted:6.1f} MiB"


def main() -> None:
    """Measure one network after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if asked.folder:
        print(measure(asked.folder))
        return
    from tests.models.publishing import network_of, publish  # noqa: PLC0415 - loads torch.

    for name in asked.networks:
        with tempfile.TemporaryDirectory() as folder:
            publish(Path(folder), network_of(name, ["a", "b"]))
            command = [sys.executable, __file__, "--folder", folder]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"{name:14} {told}", end="", flush=True)


if __name__ == "__main__":
    main()
