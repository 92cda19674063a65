"""Images are kept with the pixels that views need, and views are as sharp as what is judged."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench.views import jpeg, leaves, ratio
from core.imaging.decode import decode
from models.data.canvas import Canvas, pictures


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def kept(canvas: Canvas, image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    row = canvas.row(image)[None]
    assert row.nbytes == canvas.row_bytes
    (found,) = pictures(row, torch.from_numpy(row))
    return found.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("cropped", [True, False])
def test_an_image_with_fewer_pixels_is_kept_as_it_is(cropped: bool) -> None:  # noqa: FBT001
    image = picture(40, 30)
    assert np.array_equal(kept(Canvas(50, cropped), image), np.asarray(image))


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (301, 299), (2000, 100), (64, 64)])
def test_a_larger_one_keeps_its_shape_and_as_many_pixels_as_a_square(size: tuple[int, int]) -> None:
    high, wide, _ = kept(Canvas(64, cropped=True), picture(*size)).shape
    assert 0.9 * 64**2 < wide * high <= 64**2
    assert wide / high == pytest.approx(size[0] / size[1], rel=0.08)


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (2000, 100)])
def test_of_the_middle_all_is_kept_that_can_be_seen(size: tuple[int, int]) -> None:
    """A square of side 1, turned by 8 degrees, at 1.1 times its side, moved by 0.09."""
    high, wide, _ = kept(Canvas(64, cropped=False), picture(*size)).shape
    assert min(wide, high) == 64
    turned = 1.1 * (np.cos(np.radians(8)) + np.sin(np.radians(8))) + 2 * 0.09
    longest = 64 * min(max(size) / min(size), turned)
    assert longest - 1 <= max(wide, high) <= 96


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (2000, 100)])
def test_what_is_seen_whole_is_kept_whole(size: tuple[int, int]) -> None:
    high, wide, _ = kept(Canvas(64, cropped=False, fit="pad"), picture(*size)).shape
    assert max(wide, high) == 64
    assert wide / high == pytest.approx(size[0] / size[1], rel=0.1)
    assert kept(Canvas(64, cropped=True, fit="squash"), picture(*size)).shape == (64, 64, 3)


@pytest.mark.parametrize("augmentation", ["light", "standard", "strong"])
@pytest.mark.parametrize("width", [300, 800])
def test_views_are_as_sharp_as_evaluation_crops(augmentation: str, width: int) -> None:
    """Canvases of a fixed side, enlarged by crops, had two thirds of it (`bench/views.py`)."""
    files = [jpeg(leaves(seed, 800, 8000), width) for seed in range(4)]
    assert decode(files[0]).width == width
    assert 0.85 < ratio(files, "mobilenet_v2", augmentation, epochs=3) < 1.15
