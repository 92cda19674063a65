"""Batches arrive ready on the device that was asked for, and sending them keeps nobody waiting."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.compute.transfer import sent
from models.data.augment import POLICIES, Augmentation, named
from models.data.cache import Cache
from models.data.canvas import Canvas
from models.data.rows import Kind, Rows
from models.data.sources import Canvases, Crops
from models.inference.preprocess import Preprocess

SIDE = 32
PREPROCESS = Preprocess(36, SIDE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Cut out, moved by whole pixels, and turned.
AUGMENTATIONS = [
    named("strong", 224, erase=0.5),
    named("standard", SIDE, erase=0.5),
    named("light", SIDE),
]
INDICES = np.arange(3, 40)


def pictures(side: int) -> Rows:
    """Return soft waves under a little noise, as photographs are."""
    rng = np.random.default_rng(0)
    lines = np.sin(np.arange(side) / 5 + rng.uniform(0, 6, (48, 3, 1)))
    whole = 127 + 50 * (lines[..., None] + lines[..., None, :]) + rng.normal(0, 5, (48, 3, 1, side))
    return stored(whole.clip(0, 255).astype(np.uint8))


def stored(pixels: NDArray[np.uint8]) -> Rows:
    """Return rows of a cache that is gone by then."""
    kind = Kind("pictures", {}, pixels.shape[1:], np.uint8)
    with TemporaryDirectory() as folder:
        store = Cache(Path(folder), lambda: None)
        return store.rows(kind, [bytes(32)] * 48, lambda missing: iter([pixels[missing]]))


def views(augmentation: Augmentation, device: str) -> Tensor:
    """Return a batch of training."""
    pixels = pictures(SIDE)
    if not augmentation.whole_pixels:
        canvas = Canvas(SIDE, cropped=augmentation.area is not None)
        images = pictures(60).take(np.arange(48)).transpose(0, 2, 3, 1)
        cut = [image[:, : 30 + number] for number, image in enumerate(images)]
        pixels = stored(np.stack([canvas.row(Image.fromarray(image)) for image in cut]))
    labels = torch.zeros(48, dtype=torch.int64)
    return Canvases(pixels, labels, PREPROCESS, augmentation, 5, device).batch(INDICES, 2)


def crops(device: str) -> Tensor:
    """Return a batch of validation."""
    labels = torch.zeros(48, dtype=torch.int64)
    return Crops(pictures(SIDE), labels, PREPROCESS, device).batch(INDICES, 2)


def levels(batch: Tensor) -> Tensor:
    """Undo the normalisation: 0..255, on the CPU."""
    mean, std = torch.tensor([PREPROCESS.mean, PREPROCESS.std]).view(2, 3, 1, 1)
    return (batch.cpu() * std + mean) * 255


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_device_of_a_batch_is_the_one_asked_for(augmentation: Augmentation) -> None:
    """Torch's meta device refuses to mix tensors of two devices, as a GPU does."""
    for batch in (views(augmentation, "meta"), crops("meta")):
        assert batch.device.type == "meta"
        assert batch.shape == (len(INDICES), 3, SIDE, SIDE)
        assert batch.dtype == torch.float32


def test_what_is_there_already_is_not_copied() -> None:
    tensor = torch.arange(3)
    assert sent(tensor, "cpu") is tensor


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_gpu_shows_the_views_of_the_cpu(augmentation: Augmentation) -> None:
    difference = levels(views(augmentation, "cuda")) - levels(views(augmentation, "cpu"))
    assert float(difference.abs().max()) < 1
    torch.testing.assert_close(crops("cuda").cpu(), crops("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_gpu_draws_the_same_changes(policy: str) -> None:
    """Changes by whole levels and to the nearest pixel turn rounding into more, here and there."""
    augmentation = Augmentation(policy=policy)
    difference = levels(views(augmentation, "cuda")) - levels(views(augmentation, "cpu"))
    assert float((difference.abs() < 1.5).float().mean()) > 0.98


@pytest.fixture
def _no_waiting() -> Iterator[None]:
    torch.zeros(1, device="cuda")  # The first contact with a device waits for it.
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_batch_is_prepared_while_the_gpu_computes(augmentation: Augmentation) -> None:
    assert views(augmentation, "cuda").is_cuda
    assert crops("cuda").is_cuda


@pytest.mark.gpu
def test_what_comes_back_from_a_gpu_is_whole() -> None:
    numbers = torch.arange(1 << 24)
    assert sent(sent(numbers, "cuda") + 1, "cpu").equal(numbers + 1)
