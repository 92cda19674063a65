"""AVIF and HEIC as phones, cameras and web pages have them, made by the libraries themselves."""

import io
import struct
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from core.imaging import formats
from core.imaging.decode import ImageLimits, decode, probe
from core.imaging.formats import format_of, recognised, refusal, unread_image
from tests.pictures import encode, photo, pixels_of
from topwork.errors import ImageTooLarge, ImageUndecodable, TopworkError

KINDS = ("AVIF", "HEIF")
GREATEST_LOSS = 6  # Of 255, in the mean, at the qualities used here.


@pytest.fixture(autouse=True, scope="module")
def encoder() -> None:
    pillow_heif.register_heif_opener()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    speed = {"speed": 10, "max_threads": 1} if kind == "AVIF" else {}
    return encode(image, kind, quality=90, **speed, **options)


def unlike(data: bytes, wanted: Image.Image) -> float:
    """Return how far the decoded file is from a picture of the same size, in levels of 255."""
    return float(np.abs(pixels_of(data) - np.asarray(wanted.convert("RGB")).astype(int)).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 33), (1, 1), (200, 70)])
def test_they_are_read_with_their_pixels(kind: str, width: int, height: int) -> None:
    data = saved(photo(width, height), kind)
    info = probe(data)
    assert (info.format, info.width, info.height, info.frames) == (kind, width, height, 1)
    assert info.findings == ()
    assert format_of(data[:64]) == kind
    assert unlike(data, photo(width, height)) < GREATEST_LOSS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_and_mirroring_happen_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(65, 33), kind, exif=exif.tobytes())
    assert orientation == 1 or b"irot" in data or b"imir" in data
    tagged = Image.open(io.BytesIO(encode(photo(65, 33), "PNG", exif=exif)))
    upright = ImageOps.exif_transpose(tagged)
    info = probe(data)
    assert (info.width, info.height) == upright.size
    assert unlike(data, upright) < GREATEST_LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_and_not_exif_say_how_a_picture_is_held(kind: str) -> None:
    """ISO/IEC 23008-12: readers shall ignore the orientation of EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(photo(), kind, exif=exif.tobytes())
    at = data.index(b"irot")
    upright = data[: at + 4] + b"\0" + data[at + 5 :]
    assert probe(upright).width == 64
    assert unlike(upright, photo()) < GREATEST_LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_broken_exif_costs_no_good_picture(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    data = saved(photo(), kind, exif=exif.tobytes())
    at = max(data.rfind(b"II*\0"), data.rfind(b"MM\0*"))
    assert at > 0
    nowhere = data[: at + 4] + b"\xff" * 4 + data[at + 8 :]  # Its directory is said to lie there.
    assert unlike(nowhere, photo()) < GREATEST_LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_is_shown_over_white_and_grey_stays_grey(kind: str) -> None:
    drawn = Image.new("RGBA", (64, 48), (200, 0, 0, 0))
    drawn.paste((0, 0, 200, 255), (32, 0, 64, 48))
    data = saved(drawn, kind)
    assert probe(data).findings == ("alpha_flattened",)
    pixels = pixels_of(data)
    assert pixels[24, 8].min() > 245
    assert np.abs(pixels[24, 56] - [0, 0, 200]).max() < 12
    grey = saved(photo().convert("L"), kind)
    assert unlike(grey, photo().convert("L")) < GREATEST_LOSS


@pytest.mark.parametrize("bits", [10, 12])
def test_more_than_eight_bits_keep_their_brightness(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    wide = np.asarray(photo()).astype("<u2") * 257
    for mode, samples in (("RGB;16", wide), ("L;16", wide[..., 1])):
        file = io.BytesIO()
        size = (64, 48)
        pillow_heif.encode(mode, size, np.ascontiguousarray(samples).tobytes(), file)
        data = file.getvalue()
        assert data[data.index(b"pixi") + 9] == bits
        wanted = Image.fromarray((samples // 257).astype(np.uint8))
        assert unlike(data, wanted) < GREATEST_LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_pictures_the_primary_one_is_used(kind: str) -> None:
    other = photo(64, 48).transpose(Image.Transpose.ROTATE_180)
    primary = {"primary_index": 1} if kind == "HEIF" else {}
    data = saved(photo(), kind, save_all=True, append_images=[other], **primary)
    info = probe(data)
    assert (info.frames, info.findings) == (2, ("several_frames",))
    assert unlike(data, other if primary else photo()) < GREATEST_LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_general_brand_is_judged_by_the_others(kind: str) -> None:
    data = saved(photo(), kind)
    general = data[:8] + b"mif1" + data[12:]
    assert data[8:12] in data[16:40]
    assert format_of(general) == kind
    assert unlike(general, photo()) < GREATEST_LOSS
    assert "HEIF" in refusal(b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf")
    assert "video" in refusal(b"\0\0\0\x18ftypisom\0\0\0\0isommp42")


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_judged_by_the_header(kind: str) -> None:
    data = saved(photo(64, 64), kind)
    at = data.index(b"ispe") + 8
    huge = data[:at] + struct.pack(">II", 9000, 9000) + data[at + 8 :]
    for read in (probe, decode):
        with pytest.raises(ImageTooLarge, match="9000 x 9000"):
            read(huge)
        with pytest.raises(ImageTooLarge, match="64 x 64"):
            read(data, ImageLimits(max_pixels=3000))


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_larger_than_its_header_says_is_no_way_around_the_limit(kind: str) -> None:
    data = saved(Image.new("RGB", (1500, 1500), (200, 30, 30)), kind)
    at = data.index(b"ispe") + 8
    lying = data[:at] + struct.pack(">II", 64, 64) + data[at + 8 :]
    try:
        assert decode(lying).size == (64, 64)
    except TopworkError as error:
        assert error.code == "image_undecodable"  # noqa: PT017


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_one_named_error(kind: str) -> None:
    rng = np.random.default_rng(0)
    data = saved(photo(), kind)
    for share in (0.05, 0.3, 0.5, 0.9):
        with pytest.raises(ImageUndecodable):
            decode(data[: int(len(data) * share)])
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(3):
            broken[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        for read in (probe, decode):
            try:
                read(bytes(broken))
            except TopworkError as error:
                assert error.code in {"image_undecodable", "image_too_large"}  # noqa: PT017


def test_without_the_extra_the_words_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo(), "HEIF")
    assert recognised(data)
    assert unread_image(data) is None
    monkeypatch.setattr(formats, "reads_heic", lambda: False)
    assert not recognised(data)
    assert "topwork[heic]" in (unread_image(data) or "")
    with pytest.raises(ImageUndecodable, match=r"HEIC photograph.*extra topwork\[heic\]"):
        decode(data)
    assert decode(saved(photo(), "AVIF")).size == (64, 48)
