"""Samples of every depth, colour space and transparency become the RGB a viewer would show."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from core.imaging.decode import decode, probe
from tests.pictures import chunk, encode, pixels_of, png_header, tiff
from topwork.errors import ImageUndecodable


def test_cmyk_is_converted() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for data in (encode(cmyk, "JPEG", quality=95), encode(cmyk, "TIFF")):
        assert probe(data).findings == ("cmyk_converted",)
        assert np.abs(pixels_of(data)[8, 8] - [255, 0, 0]).max() <= 3


def test_a_broken_or_foreign_profile_falls_back_to_the_plain_conversion() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"rubbish", srgb):
        data = encode(cmyk, "JPEG", quality=95, icc_profile=profile)
        assert np.abs(pixels_of(data)[8, 8] - [255, 0, 0]).max() <= 3


def test_lab_is_converted() -> None:
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (8, 8), (200, 30, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    assert np.abs(pixels_of(encode(lab, "TIFF"))[4, 4] - [200, 30, 40]).max() <= 4


def test_sixteen_bit_grey_is_rescaled() -> None:
    ramp = np.linspace(0, 65_535, 48 * 64).reshape(48, 64).astype(np.uint16)
    expected = np.rint(ramp / 257)
    for kind in ("PNG", "TIFF"):
        data = encode(Image.fromarray(ramp), kind)
        assert probe(data).findings == ("sixteen_bit",)
        got = pixels_of(data)
        assert (got == expected[..., None]).all()
        assert 126 < got.mean() < 129


def test_the_declared_depth_and_polarity_of_a_tiff_count() -> None:
    twelve = np.frombuffer(bytes([0xFF, 0xF0, 0x00] * 4), np.uint8).reshape(4, 3)
    data = tiff(twelve, 12).replace(
        struct.pack("<HHII", 256, 3, 1, 3), struct.pack("<HHII", 256, 3, 1, 2)
    )
    assert pixels_of(data)[0, :, 0].tolist() == [255, 0]
    wide = np.array([[0, 65_535]], dtype=np.uint16)
    assert pixels_of(tiff(wide, 16))[0, :, 0].tolist() == [0, 255]
    assert pixels_of(tiff(wide, 16, photometric=0))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(("bits", "kind"), [(32, np.uint32), (32, np.int32), (16, np.int16)])
def test_samples_without_an_agreed_white_are_refused_by_name(bits: int, kind: type) -> None:
    signed = np.issubdtype(kind, np.signedinteger)
    data = tiff(np.ones((4, 4), dtype=kind), bits, sample_format=2 if signed else 1)
    with pytest.raises(ImageUndecodable, match="signed" if signed else "32-bit integer"):
        decode(data)


def test_float_tiff_is_rescaled_or_refused_by_name() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    got = pixels_of(encode(Image.fromarray(ramp), "TIFF"))
    assert (got[..., 0].ravel() == np.arange(256)).all()
    for bad in (ramp * 255, ramp - 0.5, np.full((4, 4), np.nan, dtype=np.float32)):
        with pytest.raises(ImageUndecodable, match="float"):
            decode(encode(Image.fromarray(bad), "TIFF"))


def test_transparency_shows_white() -> None:
    rgba = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    rgba.paste((0, 0, 0, 0), (0, 0, 4, 8))
    rgba.putpixel((7, 7), (0, 0, 0, 128))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    pictures = {
        "RGBA": encode(rgba, "PNG"),
        "webp": encode(rgba, "WEBP", lossless=True),
        "tiff": encode(rgba, "TIFF"),
        "P+byte": encode(palette, "PNG", transparency=0),
        "P+table": encode(palette, "PNG", transparency=bytes([0, 255])),
        "gif": encode(palette, "GIF", transparency=0),
        "RGB+key": encode(palette.convert("RGB"), "PNG", transparency=(0, 0, 0)),
    }
    for name, data in pictures.items():
        got = pixels_of(data)
        assert got[0, 0].tolist() == [255, 255, 255], name
        assert got[0, 7].tolist() == [200, 0, 0], name
        assert "alpha_flattened" in probe(data).findings, name
    assert abs(int(pixels_of(pictures["RGBA"])[7, 7, 0]) - 127) <= 1


def test_grey_alpha_one_bit_and_sixteen_bit_keys() -> None:
    grey = Image.new("LA", (4, 4), (90, 255))
    grey.putpixel((0, 0), (0, 0))
    got = pixels_of(encode(grey, "PNG"))
    assert got[0, 0, 0] == 255
    assert got[1, 1].tolist() == [90, 90, 90]
    bits = Image.new("1", (4, 4), 1)
    bits.putpixel((0, 0), 0)
    assert pixels_of(encode(bits, "PNG"))[0, :2, 0].tolist() == [0, 255]
    wide = Image.fromarray(np.array([[500, 65_535 // 2]], dtype=np.uint16))
    data = encode(wide, "PNG")
    key = chunk(b"tRNS", struct.pack(">H", 500))
    at = data.index(b"IDAT") - 4
    assert pixels_of(data[:at] + key + data[at:])[0, :, 0].tolist() == [255, 127]


def test_a_sixteen_bit_colour_key_is_understood() -> None:
    row = b"\0" + struct.pack(">6H", 0xAB00, 0, 0, 0x1000, 0x2000, 0x3000)
    data = (
        png_header(2, 1, depth=16, colour=2)
        + chunk(b"tRNS", struct.pack(">3H", 0xAB00, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    assert pixels_of(data)[0].tolist() == [[255, 255, 255], [0x10, 0x20, 0x30]]
