"""What pixels show: nothing, a part of their range, another colour space, a preview."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from core.imaging.decode import decode, probe
from core.imaging.header_limits import Directory
from core.imaging.inspection import inspect
from core.imaging.to_rgb import Rendering
from tests.colour_profiles import ADOBE, P3, profile
from tests.pictures import chunk, encode, photo, pixels_of, tiff

EARLIER = Rendering(stated=False)


def srgb(rgb: tuple[int, ...], colorants: tuple[tuple[float, ...], ...]) -> list[int]:
    """The same colour in sRGB, computed in D50 as profiles do."""
    own = np.array(
        ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
    ).T
    linear = (np.array(rgb) / 255) ** 2.2
    light = np.linalg.solve(own, np.array(colorants).T @ linear).clip(0, 1)
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(curved * 255).astype(int).tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("colorants", [ADOBE, P3])
def test_colours_of_another_space_are_converted(
    kind: str, colorants: tuple[tuple[float, ...], ...]
) -> None:
    colour = (60, 200, 90)
    options = (
        {"quality": 95}
        if kind in {"JPEG", "AVIF"}
        else {"lossless": True}
        if kind == "WEBP"
        else {}
    )
    picture = Image.new("RGB", (32, 32), colour)
    data = encode(picture, kind, icc_profile=profile(colorants, "Wide"), **options)
    expected = srgb(colour, colorants)
    assert max(abs(a - b) for a, b in zip(expected, colour, strict=True)) > 20
    assert np.abs(pixels_of(data)[16, 16] - expected).max() <= 4
    assert np.abs(pixels_of(data, rendering=EARLIER)[16, 16] - colour).max() <= 3
    assert "profile_converted" in probe(data).findings
    small = np.asarray(decode(data, shrink_to=8))
    assert np.abs(small[0, 0].astype(int) - expected).max() <= 4


def test_palettes_and_transparency_are_converted_too() -> None:
    colour, wide = (60, 200, 90), profile(ADOBE, "Wide")
    expected = srgb(colour, ADOBE)
    clear = Image.new("RGBA", (16, 16), (*colour, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 4, 4))
    indexed = Image.new("RGB", (16, 16), colour).quantize(4)
    for picture in (clear, indexed):
        data = encode(picture, "PNG", icc_profile=wide)
        assert "profile_converted" in probe(data).findings
        assert np.abs(pixels_of(data)[8, 8] - expected).max() <= 4
    assert pixels_of(encode(clear, "PNG", icc_profile=wide))[0, 0].tolist() == [255, 255, 255]


def test_srgb_and_useless_profiles_change_nothing() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = struct.pack(">I", 128) + b"lcms" + bytes(120)
    for useless in (
        own,
        b"rubbish",
        b"",
        grey,
        profile(ADOBE, "Nikon sRGB 4.0"),
        profile(ADOBE, "Wide")[:200],
    ):
        for kind in ("PNG", "TIFF"):
            data = encode(photo(), kind, icc_profile=useless)
            assert "profile_converted" not in probe(data).findings
            assert np.array_equal(pixels_of(data), np.asarray(photo()))


def sixteen(top: int, kind: str = "PNG", extra: bytes = b"") -> bytes:
    ramp = np.linspace(0, top, 48 * 64).reshape(48, 64).astype(np.uint16)
    data = encode(Image.fromarray(ramp), kind)
    return data[:33] + extra + data[33:]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_part_of_the_range_is_found_and_may_be_made_the_range(bits: int) -> None:
    top = (1 << bits) - 1
    for kind in ("PNG", "TIFF"):
        info = inspect(sixteen(top, kind))
        assert info.range == (top, 65_535)
        assert set(info.findings) >= {"sixteen_bit", "dark_range"}
        assert pixels_of(sixteen(top, kind)).max() == round(top / 257)
        bright = pixels_of(sixteen(top, kind), rendering=Rendering(white=top))
        assert (bright.min(), bright.max()) == (0, 255)
    assert "dark_range" not in inspect(sixteen(40_000)).findings
    assert pixels_of(sixteen(40_000), rendering=Rendering(white=top)).max() == 255


def test_the_bits_that_a_file_states_are_its_range() -> None:
    stated = sixteen(4095, extra=chunk(b"sBIT", b"\x0c"))
    assert inspect(stated).range == (4095, 4095)
    assert "dark_range" not in inspect(stated).findings
    assert pixels_of(stated).max() == 255
    assert pixels_of(stated, rendering=EARLIER).max() == 16
    scaled = sixteen(65_535, extra=chunk(b"sBIT", b"\x0c"))  # As the specification has it.
    assert pixels_of(scaled).max() == 255
    assert pixels_of(scaled).mean() == pytest.approx(127, abs=1)


@pytest.mark.parametrize("tag", [281, 341])
@pytest.mark.parametrize("largest", [4095, 3871])
def test_the_largest_sample_that_a_tiff_states_counts_in_whole_bits(tag: int, largest: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = largest
    tags.tagtype[tag] = 3
    ramp = np.linspace(0, 3000, 48 * 64).reshape(48, 64).astype(np.uint16)
    data = encode(Image.fromarray(ramp), "TIFF", tiffinfo=tags)
    assert inspect(data).range == (3000, 4095)
    assert pixels_of(data).max() == round(3000 / 4095 * 255)
    tags[tag] = 255  # Its samples say otherwise.
    data = encode(Image.fromarray(ramp), "TIFF", tiffinfo=tags)
    assert inspect(data).range == (3000, 65_535)


def test_wide_colours_are_found_dark_by_their_upper_bytes() -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (8, 8, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data = head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    info = inspect(data)
    assert info.range == (4095, 65_535)
    assert {"sixteen_bit", "dark_range"} <= set(info.findings)
    bright = pixels_of(data, rendering=Rendering(white=4095))
    assert np.abs(bright - np.rint(samples / 4095 * 255)).max() <= 16
    assert pixels_of(data).max() == 15


def white_logo(kind: str, ground: tuple[int, int, int, int] = (255, 255, 255, 0)) -> bytes:
    logo = Image.new("RGBA", (48, 48), ground)
    logo.paste((255, 255, 255, 255), (12, 12, 30, 30))
    return encode(logo, kind, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_white_logo_on_nothing_is_shown_over_black(kind: str) -> None:
    data = white_logo(kind)
    findings = inspect(data).findings
    assert {"alpha_flattened", "shown_over_black"} <= set(findings)
    assert "blank_image" not in findings
    pixels = pixels_of(data)
    assert (pixels[20, 20].tolist(), pixels[2, 2].tolist()) == ([255] * 3, [0] * 3)
    assert pixels_of(data, rendering=EARLIER).min() == 255
    usual = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
    usual.paste((200, 30, 30, 255), (12, 12, 30, 30))
    assert inspect(encode(usual, "PNG")).findings == ("alpha_flattened",)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encode(Image.new("RGB", (64, 48), (250, 250, 250)), "JPEG"),
        lambda: encode(Image.new("L", (5, 5), 9), "PNG"),
        lambda: encode(Image.new("RGBA", (64, 64), (9, 9, 9, 0)), "PNG"),
        lambda: encode(Image.new("1", (300, 200)), "TIFF"),
        lambda: encode(Image.fromarray(np.full((20, 20), 60_000, np.uint16)), "PNG"),
        lambda: encode(Image.new("P", (64, 64)), "GIF"),
    ],
)
def test_a_picture_of_one_colour_is_blank(make: Callable[[], bytes]) -> None:
    assert "blank_image" in inspect(make()).findings


def test_a_single_spot_is_something_to_see() -> None:
    for side in (8, 400):
        picture = Image.new("RGB", (side, side), "white")
        picture.putpixel((side // 2, side // 2), (0, 0, 0))
        assert "blank_image" not in inspect(encode(picture, "PNG")).findings


def pages(*sizes: tuple[int, int], reduced: int | None = None) -> bytes:
    """A TIFF of pages of these sizes, one of which is marked as a smaller copy."""
    frames = []
    for number, size in enumerate(sizes):
        page, tags = photo(*size), TiffImagePlugin.ImageFileDirectory_v2()
        tags[254] = int(number == reduced)
        page.encoderinfo = {"tiffinfo": tags}
        frames.append(page)
    out = io.BytesIO()
    first, *rest = frames
    first.save(out, "TIFF", save_all=True, append_images=rest, **first.encoderinfo)
    return out.getvalue()


def test_the_page_behind_a_preview_is_read() -> None:
    for data in (pages((40, 40), (400, 300), reduced=0), pages((40, 30), (400, 300))):
        info = inspect(data)
        assert (info.width, info.height) == (400, 300)
        assert {"preview_skipped", "several_frames"} <= set(info.findings)
        assert decode(data).size == (400, 300)
        assert decode(data, rendering=EARLIER).size[0] == 40


def test_pages_of_other_shapes_are_other_pictures() -> None:
    for sizes in (((40, 30), (300, 400)), ((40, 30), (60, 45)), ((400, 300), (40, 30))):
        data = pages(*sizes)
        assert decode(data).size == sizes[0]
        assert "preview_skipped" not in probe(data).findings


@pytest.mark.parametrize("tag", [50706, 254])
def test_a_preview_alone_is_named(tag: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = b"\1\4\0\0" if tag > 1000 else 1
    data = encode(photo(160, 120), "TIFF", tiffinfo=tags)
    assert "preview_only" in inspect(data).findings
    assert "preview_only" not in probe(tiff(np.zeros((4, 4), np.uint8), 8)).findings


def test_a_broken_page_behind_costs_no_good_one() -> None:
    data = pages((40, 30), (400, 300))
    behind = Directory.first_of(data).next_of(data)
    assert behind is not None
    for cut in (behind.at, behind.at + 1, behind.at + 30):
        assert decode(data[:cut]).size == (40, 30)
