"""Whatever holds an image comes out as a file with the same pixels; what does not is named."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core.imaging.decode import decode
from topwork.client.images import MOST_BYTES, MOST_IMAGES, batches, encoded
from topwork.errors import FolderUnusable, ImageUnusable

SEEDS = st.integers(0, 2**32 - 1)
NOISE = np.random.default_rng(7).integers(0, 256, (5, 9, 3), dtype=np.uint8)


def png(pixels: Any = NOISE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_a_path_goes_as_it_is_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png())
    assert encoded(path, 0) == encoded(str(path), 0) == ("cat.png", png())


def test_bytes_and_open_files_go_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(png())
    with (tmp_path / "cat.png").open("rb") as file:
        assert encoded(file, 0) == ("cat.png", png())
    for image in (png(), bytearray(png()), memoryview(png()), io.BytesIO(png())):
        assert encoded(image, 3) == ("image3", png())


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([(), (3,), (4,)]), st.integers(1, 40), st.integers(1, 40), SEEDS)
def test_an_array_becomes_a_png_of_its_samples(
    samples: tuple[int, ...], height: int, width: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    array = generator.integers(0, 256, (height, width, *samples), dtype=np.uint8)
    views = (array, array[::-1], array[:, ::-1], np.asfortranarray(array), array[::2, ::3])
    for view in views:
        name, data = encoded(view, 1)
        assert name == "image1.png"
        assert np.array_equal(pixels(data), view)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_picture_becomes_a_png_of_its_pixels(mode: str) -> None:
    picture = Image.fromarray(NOISE).convert("L" if mode == "I;16" else "RGB").convert(mode)
    _, data = encoded(picture, 0)
    with Image.open(io.BytesIO(data)) as back:
        assert np.array_equal(np.asarray(back.convert("RGBA")), np.asarray(picture.convert("RGBA")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stays_as_upright_as_the_file_it_came_from(orientation: int) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(NOISE).save(file, "JPEG", exif=exif, quality=95)
    with Image.open(io.BytesIO(file.getvalue())) as picture:
        _, data = encoded(picture, 0)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(decode(file.getvalue())))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (7, "of the type int"),
        (None, "of the type NoneType"),
        (NOISE.astype(np.float32), "5 x 9 x 3 values of the type float32"),
        (NOISE[..., :2], "5 x 9 x 2 values"),
        (np.stack([NOISE, NOISE]), "2 x 5 x 9 x 3 values"),
        (NOISE[0, 0], "array of 3 values"),
        (NOISE[:0], "0 x 9 x 3 values"),
        (NOISE > 100, "of the type bool"),
        (io.StringIO("text"), "opened as text"),
        (Image.fromarray(NOISE).convert("CMYK"), "CMYK"),
        (Image.fromarray(NOISE).convert("F"), "mode F"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(image: Any, words: str) -> None:
    with pytest.raises(ImageUnusable, match=words) as caught:
        list(batches([image]))
    assert caught.value.hint


@pytest.mark.parametrize("images", [7, None, {"cat.png": "cat"}, 1.5, object()])
def test_what_is_neither_an_image_nor_several_is_refused(images: Any) -> None:
    with pytest.raises(ImageUnusable, match=type(images).__name__):
        list(batches(images))


def test_no_image_at_all_is_refused() -> None:
    with pytest.raises(ImageUnusable, match="no image to classify"):
        list(batches([]))


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match=r"no\.png"):
        list(batches(tmp_path / "no.png"))


@pytest.mark.parametrize(
    "images",
    [png(), NOISE, Image.fromarray(NOISE), io.BytesIO(png())],
    ids=["bytes", "array", "picture", "file"],
)
def test_one_image_is_one_though_it_could_be_iterated(images: Any) -> None:
    ((part,),) = batches(images)
    assert np.array_equal(pixels(part[1][1]), NOISE)


@pytest.mark.parametrize("several", [list, tuple, iter, lambda images: (one for one in images)])
def test_several_images_keep_their_order(several: Any) -> None:
    images = [png(NOISE[:, : width + 1]) for width in range(MOST_IMAGES // 2)]
    mixed = [one if number % 2 else pixels(one) for number, one in enumerate(images)]
    found = [part for batch in batches(several(mixed)) for part in batch]
    assert [pixels(data).shape[1] for _, (_, data) in found] == list(range(1, 9))


def test_requests_hold_no_more_images_and_bytes_than_a_service_takes() -> None:
    assert [len(batch) for batch in batches([b"x"] * (2 * MOST_IMAGES + 1))] == [16, 16, 1]
    half = bytes(MOST_BYTES // 2)
    assert [len(batch) for batch in batches([half, half, b"x", bytes(2 * MOST_BYTES)])] == [2, 1, 1]
