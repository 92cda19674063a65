"""The preprocessing is the published preset, whatever the size of the image."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from models.inference.preprocess import Preprocess
from models.inference.resample import FILTERS, FITS
from tests.pictures import chunk, encode
from topwork.errors import ArchitectureUnknown, ImageUndecodable, IntegrityError

IMAGENET = Preprocess(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def picture(width: int, height: int) -> Image.Image:
    """Edges and gradients at random places, as in a photograph."""
    rng = np.random.default_rng(width * 10_000 + height)
    small = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def stock(preprocess: Preprocess) -> ImageClassification:
    return ImageClassification(
        crop_size=preprocess.crop,
        resize_size=preprocess.resize,
        mean=preprocess.mean,
        std=preprocess.std,
        interpolation=InterpolationMode(preprocess.interpolation),
    )


@pytest.mark.parametrize(
    "size",
    [(500, 375), (375, 500), (333, 500), (256, 256), (257, 1001), (90, 61), (224, 225), (20, 400)],
)
@pytest.mark.parametrize(
    "preprocess",
    [IMAGENET, Preprocess(255, 240, (0.5,) * 3, (0.5,) * 3, "bicubic")],
    ids=["bilinear", "bicubic"],
)
def test_it_equals_the_stock_preset(size: tuple[int, int], preprocess: Preprocess) -> None:
    """Up to one level of 255 in the order in which Pillow filters rows and columns."""
    image = picture(*size)
    ours = preprocess.normalise(torch.from_numpy(preprocess.uint8(image))[None])[0]
    theirs = stock(preprocess)(image)
    levels = (ours - theirs).abs() * torch.tensor(preprocess.std).view(3, 1, 1) * 255
    assert levels.quantile(0.999) <= 1.01
    assert levels.mean() < 0.4


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (7, 5), (3000, 200)])
def test_any_size_gives_a_full_input(size: tuple[int, int]) -> None:
    pixels = IMAGENET.uint8(Image.new("RGB", size, (10, 200, 30)))
    assert pixels.shape == (3, 224, 224)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert (pixels == np.array([10, 200, 30]).reshape(3, 1, 1)).all()


def test_the_middle_of_the_image_is_kept() -> None:
    image = Image.new("RGB", (800, 400))
    image.paste((255, 255, 255), (300, 100, 500, 300))
    pixels = Preprocess(400, 200, (0.0,) * 3, (1.0,) * 3).uint8(image)
    assert (pixels == 255).all()


def test_reading_is_decoding_at_a_fixed_fidelity() -> None:
    smooth = picture(12, 9).resize((2400, 1800), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    smooth.save(out, "JPEG", quality=92)
    fast = IMAGENET.read(out.getvalue()).astype(float)
    full = IMAGENET.uint8(Image.open(io.BytesIO(out.getvalue()))).astype(float)
    assert 0 < np.abs(fast - full).mean() < 0.5
    with pytest.raises(ImageUndecodable):
        IMAGENET.read(b"no image")


def test_a_phone_photograph_is_read_small_and_a_small_one_exactly() -> None:
    """12 megapixels with fine texture: a quarter of the side is decoded, less than a level off."""
    photograph = picture(2016, 1512).resize((4032, 3024), Image.Resampling.BICUBIC)
    for image, least, most in ((photograph, 0.0, 1.0), (picture(500, 375), -1.0, 0.0)):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=92)
        fast = IMAGENET.read(out.getvalue()).astype(float)
        full = IMAGENET.uint8(Image.open(io.BytesIO(out.getvalue()))).astype(float)
        assert least < np.abs(fast - full).mean() <= most


def test_normalising_keeps_the_batch_and_its_layout() -> None:
    batch = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    before = batch.clone()
    result = IMAGENET.normalise(batch)
    assert result.dtype == torch.float32
    assert torch.equal(batch, before)
    expected = (batch[1, 2, 3, 4].item() / 255 - 0.406) / 0.225
    assert result[1, 2, 3, 4].item() == pytest.approx(expected, abs=1e-6)
    last = batch.contiguous(memory_format=torch.channels_last)
    result = IMAGENET.normalise(last)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_card_without_a_revision_keeps_the_pixels_it_was_evaluated_with() -> None:
    """One call of Pillow, which filters the columns of this image first."""
    card = IMAGENET.to_dict()
    del card["revision"]
    earlier = Preprocess.from_dict(card)
    assert earlier.revision == 1
    assert Preprocess.from_dict(earlier.to_dict()) == earlier
    upright = picture(333, 500)
    box = (16 * 333 / 256, 80 * 500 / 384, 240 * 333 / 256, 304 * 500 / 384)
    pillow = np.array(upright.resize((224, 224), Image.Resampling.BILINEAR, box=box))
    assert np.array_equal(earlier.uint8(upright), pillow.transpose(2, 0, 1))
    assert not np.array_equal(earlier.uint8(upright), IMAGENET.uint8(upright))
    assert earlier.at(112).revision == IMAGENET.revision


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(333, 500), (500, 333), (61, 640), (1, 20), (20, 1), (300, 300)])
def test_rows_are_filtered_before_columns(size: tuple[int, int], interpolation: str) -> None:
    """Against whole passes of Pillow, one at a time; a turned image has another crop."""
    image = picture(*size)
    own = replace(IMAGENET, interpolation=interpolation)
    kind = FILTERS[interpolation]
    (wide, high), (width, height) = (tuple(256 * side // min(size) for side in size), size)
    left, top = (round((side - 224) / 2) for side in (wide, high))
    across = (left * width / wide, (left + 224) * width / wide)
    down = (top * height / high, (top + 224) * height / high)
    rows = image.resize((224, height), kind, box=(across[0], 0, across[1], height))
    both = rows.resize((224, 224), kind, box=(0, down[0], 224, down[1]))
    want = np.array(both).transpose(2, 0, 1)
    # A box within the part that is read is rounded to float32 more finely than one in the image.
    off = np.abs(own.uint8(image).astype(int) - want.astype(int))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(333, 500), (1000, 300), (61, 640), (224, 224), (20, 1), (1, 20)])
def test_a_padded_image_is_whole_in_the_middle(size: tuple[int, int], interpolation: str) -> None:
    image = picture(*size)
    pixels = replace(IMAGENET, fit="pad", interpolation=interpolation).uint8(image)
    wide, high = (max(1, 224 * side // max(size)) for side in size)
    rows = image.resize((wide, image.height), FILTERS[interpolation])
    seen = np.array(rows.resize((wide, high), FILTERS[interpolation])).transpose(2, 0, 1)
    left, top = (224 - wide) // 2, (224 - high) // 2
    inside = np.zeros((224, 224), bool)
    inside[top : top + high, left : left + wide] = True
    assert np.array_equal(pixels[:, top : top + high, left : left + wide], seen)
    assert (pixels[:, ~inside] == np.array([[124], [116], [104]])).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(333, 500), (1000, 300), (20, 1), (224, 224)])
def test_a_squashed_image_is_whole_out_of_shape(size: tuple[int, int], interpolation: str) -> None:
    image = picture(*size)
    pixels = replace(IMAGENET, fit="squash", interpolation=interpolation).uint8(image)
    rows = image.resize((224, image.height), FILTERS[interpolation])
    want = np.array(rows.resize((224, 224), FILTERS[interpolation])).transpose(2, 0, 1)
    assert np.array_equal(pixels, want)


def test_a_card_without_a_fit_takes_the_square_in_the_middle() -> None:
    card = IMAGENET.to_dict()
    del card["fit"]
    assert Preprocess.from_dict(card) == IMAGENET
    padded = replace(IMAGENET, fit="pad")
    assert Preprocess.from_dict(json.loads(json.dumps(padded.to_dict()))) == padded
    assert padded.at(112, fit="squash").fit == "squash"


def test_json_round_trip() -> None:
    text = json.dumps(IMAGENET.to_dict())
    assert Preprocess.from_dict(json.loads(text)) == IMAGENET


@pytest.mark.parametrize(
    "change",
    [
        {"crop": 0},
        {"crop": 300},
        {"interpolation": "lanczos"},
        {"antialias": False},
        {"std": [0.2, 0.2, 0.0]},
        {"std": [0.2, 0.2]},
        {"mean": [float("nan"), 0, 0]},
        {"mean": "abc"},
        {"resize": None},
        {"revision": 99},
        {"revision": [1]},
        {"revision": 1, "fit": "pad"},
        {"fit": "stretch"},
        {"fit": ["crop"]},
        {"more": 1},
    ],
)
def test_a_damaged_card_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Preprocess.from_dict({**IMAGENET.to_dict(), **change})


def test_architectures_bring_their_own_preset() -> None:
    assert Preprocess.for_architecture("mobilenet_v2").crop == 224
    assert Preprocess.for_architecture("inception_v3").crop == 299
    assert Preprocess.for_architecture("lenet").crop == 32
    with pytest.raises(ArchitectureUnknown):
        Preprocess.for_architecture("mobilenet_v9")


def test_another_input_side_keeps_the_margin() -> None:
    assert IMAGENET.at(112) == Preprocess(128, 112, IMAGENET.mean, IMAGENET.std)
    assert IMAGENET.at(224) == IMAGENET


def test_what_a_file_states_counts_from_revision_3_on() -> None:
    """A card of before keeps the samples it was evaluated with."""
    ramp = np.linspace(0, 4095, 256 * 256).reshape(256, 256).astype(np.uint16)
    data = encode(Image.fromarray(ramp), "PNG")
    stated = data[:33] + chunk(b"sBIT", b"\x0c") + data[33:]
    earlier = Preprocess.from_dict({**IMAGENET.to_dict(), "revision": 2})
    assert earlier.read(stated).max() < 17
    assert IMAGENET.read(stated).max() > 220
    assert IMAGENET.read(data).max() < 17
    by_range = IMAGENET.at(224, white=4095)
    assert Preprocess.from_dict(by_range.to_dict()) == by_range
    assert by_range.read(data).max() > 220
    assert by_range.at(224).white is None
    with pytest.raises(IntegrityError):
        replace(IMAGENET, white=0)


@pytest.mark.parametrize("size", [(600, 200), (200, 600), (301, 300)])
@pytest.mark.parametrize("fit", FITS)
def test_the_box_says_where_in_the_image_a_pixel_lies(fit: str, size: tuple[int, int]) -> None:
    """A spot of the image is found where the box lays it, beyond the image's edges as well."""
    spot = np.multiply((0.55, 0.46), size)
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (*np.rint(spot - 4).astype(int), *np.rint(spot + 4).astype(int)))
    preprocess = replace(IMAGENET, fit=fit, mean=(0.0, 0.0, 0.0))
    shown = preprocess.uint8(image)[0].astype(float)
    rows, columns = np.indices(shown.shape)
    found = [np.average(places + 0.5, weights=shown) for places in (columns, rows)]
    left, top, right, bottom = preprocess.seen(image)
    expected = (np.divide(spot, size) - (left, top)) / (right - left, bottom - top)
    assert found == pytest.approx(expected * preprocess.crop, abs=0.75)
