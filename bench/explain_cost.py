"""What a heat map costs: python bench/explain_cost.py [ARCHIVE.zip] [--pairs N].

A predictor serves MobileNet-v2 with two classes by its graph in ONNX Runtime, and another one by
the network in torch, as `bench/serving.py` has them. One client asks about one JPEG after the
other, each three times in random order: plainly, with a heat map, and with one drawn upon the
image. Printed are the medians, and the ratio of the medians to that of plain requests with its 95 %
interval (percentile bootstrap of 2000 draws over images).
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "heat map": {"explain": {}},
    "drawn": {"explain": {"overlay": True}},
}
DRAWS = 2000


async def asked(folder: Path, model: dict[str, Any], images: list[bytes], pairs: int) -> np.ndarray:
    """Return the seconds of each request, (images, kinds)."""
    from bench import serving  # noqa: PLC0415 - the path is set in main.

    await serving.first_answer(folder, model, images[0])
    draw, seconds = random.Random(serving.SEED), np.empty((pairs, len(KINDS)))  # noqa: S311 - not a secret.
    async with serving.client(folder) as http:
        for number in range(pairs):
            image = images[number % len(images)]
            for place in draw.sample(range(len(KINDS)), len(KINDS)):
                more = list(KINDS.values())[place]
                headers = serving.order(model, len(image), **more)
                began = time.perf_counter()
                answer = await http.post("/predict", headers=headers, content=image)
                seconds[number, place] = time.perf_counter() - began
                assert answer.is_success, answer.text
                assert ("heatmap" in answer.json()["results"][0]) == bool(more)
    return seconds


def main() -> None:
    """Measure each engine and print a line for each kind of request."""
    from bench import plain, serving  # noqa: PLC0415 - the path is set below.

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=serving.SHARED)
    parser.add_argument("--pairs", type=int, default=200)
    given = parser.parse_args()
    if not given.archive.is_file():
        sys.exit(f"{given.archive} is not there: name an archive with JPEG files")
    with zipfile.ZipFile(given.archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        images = [archive.read(name) for name in names[:64]]
    print(plain.machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        serving.publish(folder)
        for side in serving.SIDES:
            model = serving.named(folder / side)
            with serving.predictor(folder / side):
                seconds = asyncio.run(asked(folder / side, model, images, given.pairs))
            draws = np.random.default_rng(0).integers(0, len(seconds), (DRAWS, len(seconds)))
            medians, drawn = np.median(seconds, 0), np.median(seconds[draws], 1)
            for place, kind in enumerate(KINDS):
                low, high = np.quantile(drawn[:, place] / drawn[:, 0], (0.025, 0.975))
                ratio = medians[place] / medians[0]
                told = f"{ratio:.3f} ({low:.3f} to {high:.3f})" if place else "1"
                print(f"{side:12} {kind:9} {1000 * medians[place]:6.1f} ms  {told}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
