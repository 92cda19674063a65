"""The graph makes the very samples of Pillow, whatever size comes in."""

import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from core.imaging.decode import decode
from models.compute.onnx_runtime import open_session
from models.export import pixels
from models.inference.preprocess import Preprocess
from models.inference.resample import FITS
from models.planning import catalogue

if TYPE_CHECKING:  # At run time `models.compute.onnx_runtime` loads it.
    from onnxruntime import InferenceSession

IMAGENET = Preprocess(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GEOMETRIES = sorted(
    {
        (preset.resize, preset.crop, preset.interpolation)
        for preset in map(Preprocess.for_architecture, catalogue.names())
    }
)
PHOTOGRAPHS = Path("../shared/data/hymenoptera.zip")
HOSTILE = [
    (1, 1), (1, 20), (20, 1), (1, 400), (400, 1), (2, 3), (7, 5),  # Strips and specks.
    (224, 224), (256, 256), (255, 257), (512, 512),  # Nothing to resize, or by a whole number.
    (333, 500), (500, 333), (61, 640), (640, 61), (1001, 257),  # Both orientations.
]  # fmt: skip


def session(preprocess: Preprocess) -> "InferenceSession":
    return open_session(pixels.graph(preprocess).SerializeToString())


def noise(width: int, height: int) -> NDArray[np.uint8]:
    """No two neighbours alike, so that every coefficient shows."""
    rng = np.random.default_rng(width * 100_003 + height)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def differing(graph: "InferenceSession", preprocess: Preprocess, image: NDArray[np.uint8]) -> int:
    """Count the samples in which graph and service differ, before and after normalising."""
    crop, normalised = graph.run(["crop", "input"], {"image": image})
    want = preprocess.uint8(Image.fromarray(image))
    inputs = preprocess.normalise(torch.from_numpy(want)[None])
    off = np.not_equal(crop, want).sum() + np.not_equal(normalised, inputs.numpy()).sum()
    return int(off)


@pytest.mark.parametrize(("resize", "crop", "interpolation"), GEOMETRIES)
def test_every_preset_of_the_catalogue(resize: int, crop: int, interpolation: str) -> None:
    preprocess = Preprocess(resize, crop, IMAGENET.mean, IMAGENET.std, interpolation)
    graph = session(preprocess)
    for size in random.sample(HOSTILE, 2):
        assert differing(graph, preprocess, noise(*size)) == 0, size


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.25)], ids=["plain", "centred"])
@pytest.mark.parametrize("fit", FITS)
def test_hostile_sizes(fit: str, interpolation: str, scale: tuple[float, float]) -> None:
    mean, std = scale
    preprocess = Preprocess(48, 40, (mean, 0.3, 0.9), (std,) * 3, interpolation, fit=fit)
    graph = session(preprocess)
    drawn = random.sample([(wide, high) for wide in range(1, 300) for high in range(1, 300)], 8)
    for size in HOSTILE + drawn:
        assert differing(graph, preprocess, noise(*size)) == 0, size


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (20_000, 1000), (1000, 20_000)])
def test_twelve_megapixels(size: tuple[int, int], interpolation: str) -> None:
    preprocess = Preprocess(256, 224, IMAGENET.mean, IMAGENET.std, interpolation)
    assert differing(session(preprocess), preprocess, noise(*size)) == 0


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason=f"{PHOTOGRAPHS} is not here")
@pytest.mark.parametrize("fit", FITS)
def test_photographs(photographs: list[bytes], fit: str) -> None:
    for interpolation in ("bilinear", "bicubic"):
        preprocess = replace(IMAGENET, interpolation=interpolation, fit=fit)
        graph = session(preprocess)
        for data in random.sample(photographs, 5):
            assert differing(graph, preprocess, np.array(decode(data))) == 0


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    with zipfile.ZipFile(PHOTOGRAPHS) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        return [archive.read(name) for name in names]
