"""The decoder policy, on real files written by Pillow or by hand (reliability.md 4.1, 29-52)."""

import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from core.errors import ImageTooLarge, ImageUndecodable, TopworkError
from core.images import ImageLimits, decode, probe

RNG = np.random.default_rng(0)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture with a distinct colour in each corner."""
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    corners = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [250, 250, 0]], dtype=float)
    top = corners[0] * (1 - x) + corners[1] * x
    bottom = corners[2] * (1 - x) + corners[3] * x
    return Image.fromarray((top * (1 - y) + bottom * y).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png_header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body)


def plain_png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A grey PNG of constant 7, a few bytes for any size."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" + b"\7" * width) for _ in range(height))
    body = rows + packer.flush()
    return png_header(width, height) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def pixels_of(data: bytes, **options: Any) -> np.ndarray:
    image = decode(data, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_each_format_is_read_with_its_pixels(kind: str) -> None:
    original = photo()
    options = {"quality": 95} if kind in {"JPEG", "WEBP"} else {}
    data = encode(original, kind, **options)
    info = probe(data)
    assert (info.format, info.width, info.height, info.frames) == (kind, 64, 48, 1)
    difference = np.abs(pixels_of(data) - np.asarray(original).astype(int)).mean()
    assert difference < (12 if kind == "GIF" else 4)


@pytest.mark.parametrize("wrap", [bytearray, memoryview, io.BytesIO])
def test_bytes_views_and_files_are_equal(wrap: Callable[[bytes], Any]) -> None:
    data = encode(photo(), "PNG")
    assert decode(wrap(data)).tobytes() == decode(data).tobytes()


FOREIGN = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is a cat", "not one of"),
    "html": (b"<!doctype html><html></html>", "HTML"),
    "svg": (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "psd": (b"8BPS\0\1" + bytes(40), "Photoshop"),
    "mpeg": (b"\0\0\x01\xba" + bytes(40), "video"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "zip": (b"PK\x03\x04" + bytes(40), "zip"),
    "bm": (b"BMW is a maker of cars", "broken"),
    "jpeg magic only": (b"\xff\xd8\xff", "broken"),
    "gif magic only": (b"GIF89a", "broken"),
    "tiff magic only": (b"II*\0", "broken"),
    "webp magic only": (b"RIFF\0\0\0\0WEBP", "broken"),
    "png magic only": (b"\x89PNG\r\n\x1a\n", "broken"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("read", [probe, decode])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_what_is_no_image_is_named(name: str, read: Callable[[bytes], object]) -> None:
    data, said = FOREIGN[name]
    with pytest.raises(ImageUndecodable, match=said):
        read(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.filterwarnings("ignore:Tag data larger")
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    data = encode(noise, kind)
    with pytest.raises(ImageUndecodable):
        decode(data[: int(len(data) * share)])


def test_a_png_with_a_bad_checksum_is_refused() -> None:
    data = bytearray(encode(photo(), "PNG"))
    at = data.index(b"IEND") - 8  # Inside the checksum of the last IDAT.
    data[at] ^= 0xFF
    with pytest.raises(ImageUndecodable, match="CRC"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("width", "height"),
    [(40_000, 40_000), (9000, 9000), (13_000, 13_000), (1, 65_000), (1, 3000), (25_000, 2000)],
)
def test_sizes_are_refused_before_any_pixel_is_decoded(width: int, height: int) -> None:
    data = png_header(width, height) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for read in (probe, decode):
        started = time.process_time()
        with pytest.raises(ImageTooLarge, match=f"{width} x {height}"):
            read(data)
        assert time.process_time() - started < 0.5


def test_a_gif_frame_beyond_its_screen_counts_as_its_size() -> None:
    data = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    at = data.index(b",", 13)
    data[at + 5 : at + 9] = struct.pack("<HH", 12_000, 10_000)
    with pytest.raises(ImageTooLarge):
        decode(bytes(data))


def test_zero_by_zero_is_refused() -> None:
    with pytest.raises(ImageUndecodable):
        decode(png_header(0, 0) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def test_limits_are_inclusive_and_adjustable() -> None:
    data = plain_png(30, 20)
    assert decode(data, ImageLimits(max_pixels=600, max_side=30)).size == (30, 20)
    with pytest.raises(ImageTooLarge):
        decode(data, ImageLimits(max_pixels=599))
    assert decode(plain_png(1, 20)).size == (1, 20)
    with pytest.raises(ImageTooLarge):
        decode(plain_png(1, 21))


def test_one_pixel_is_an_image() -> None:
    assert pixels_of(plain_png(1, 1)).tolist() == [[[7, 7, 7]]]


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


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int = 1,
    sample_format: int = 1,
    tile: tuple[int, int] | None = None,
) -> bytes:
    """A little-endian grey TIFF with exactly these tags, which Pillow cannot write."""
    body = samples.tobytes()
    height, width = samples.shape
    tiles = [] if tile is None else [(322, 3, tile[0]), (323, 3, tile[1]), (324, 4, 8), (325, 4, 1)]
    entries = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8 + 2 + (10 + len(tiles)) * 12 + 4),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(body)),
        *tiles,
        (339, 3, sample_format),
    ]
    ifd = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + ifd + bytes(4) + body


def test_the_declared_depth_and_polarity_of_a_tiff_count() -> None:
    twelve = np.frombuffer(bytes([0xFF, 0xF0, 0x00] * 4), np.uint8).reshape(4, 3)
    data = tiff(twelve, 12).replace(
        struct.pack("<HHII", 256, 3, 1, 3), struct.pack("<HHII", 256, 3, 1, 2)
    )
    assert pixels_of(data)[0, :, 0].tolist() == [255, 0]
    wide = np.array([[0, 65_535]], dtype=np.uint16)
    assert pixels_of(tiff(wide, 16))[0, :, 0].tolist() == [0, 255]
    assert pixels_of(tiff(wide, 16, photometric=0))[0, :, 0].tolist() == [255, 0]


def test_a_tiff_with_huge_tiles_is_refused() -> None:
    small = np.zeros((4, 4), dtype=np.uint8)
    assert decode(tiff(small, 8)).size == (4, 4)
    with pytest.raises(ImageTooLarge, match="60000"):
        decode(tiff(small, 8, tile=(60_000, 60_000)))


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


def test_only_the_first_frame_is_used() -> None:
    frames = [Image.new("RGB", (8, 8), (level % 256, 0, 0)) for level in range(40, 240)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        started = time.process_time()
        assert abs(int(pixels_of(data)[4, 4, 0]) - 40) <= 2
        info = probe(data)
        assert info.frames == 2
        assert "several_frames" in info.findings
        assert time.process_time() - started < 1


def oriented(kind: str, orientation: int) -> bytes:
    """The photo, stored so that `orientation` turns it upright again."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo() if orientation == 1 else photo().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    return encode(stored, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_picture(kind: str, orientation: int) -> None:
    data = oriented(kind, orientation)
    info = probe(data)
    assert (info.width, info.height) == (64, 48)
    assert ("exif_rotated" in info.findings) == (orientation != 1)
    expected = np.asarray(photo()).astype(int)
    assert np.abs(pixels_of(data) - expected).mean() < 4
    assert decode(data, shrink_to=8).size in {(64, 48), (32, 24)}


def test_big_endian_exif_is_read() -> None:
    body = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    data = encode(photo(), "JPEG", exif=b"Exif\0\0" + body)
    assert decode(data).size == (48, 64)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0rubbish",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_corrupt_exif_is_accepted(exif: bytes) -> None:
    data = encode(photo(), "JPEG", exif=exif)
    assert decode(data).size == (64, 48)
    assert probe(data).findings == ("exif_corrupt",)


def test_an_orientation_outside_its_range_is_reported() -> None:
    body = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 9, 0) + bytes(4)
    data = encode(photo(), "JPEG", exif=b"Exif\0\0" + body)
    assert probe(data).findings == ("exif_corrupt",)


def test_a_text_bomb_is_refused_cleanly() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 * 1024 * 1024), 9))
    for data in (plain_png(4, 4, extra=bomb), plain_png(4, 4)[:-12] + bomb + chunk(b"IEND", b"")):
        started = time.process_time()
        with pytest.raises(ImageUndecodable):
            decode(data)
        assert time.process_time() - started < 2


def test_many_texts_are_refused_cleanly() -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(70):
        info.add_text(f"k{number}", "x" * (1024 * 1024 - 8), zip=True)
    with pytest.raises(ImageUndecodable):
        decode(encode(photo(), "PNG", pnginfo=info))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encode(photo(), "JPEG", progressive=True)
    assert 5 < data.count(b"\xff\xda") < 20
    last = data.rindex(b"\xff\xda")
    body, scan = data[:last], data[last:-2]
    assert decode(body + scan * 3 + data[-2:]).size == (64, 48)
    with pytest.raises(ImageUndecodable, match="scans"):
        decode(body + scan * 200 + data[-2:])


def test_scans_in_thumbnails_and_appended_films_do_not_count() -> None:
    many = b"\xff\xda\x00\x02" * 300
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0" + many
    data = encode(photo(), "JPEG", exif=thumbnail)
    assert decode(data + b"\0\0" + many).size == (64, 48)


def test_an_appended_archive_does_not_matter() -> None:
    data = encode(photo(), "JPEG", quality=95)
    assert decode(data + b"PK\x03\x04" + bytes(100)).tobytes() == decode(data).tobytes()


def test_shrinking_keeps_twice_the_wanted_side_and_the_picture() -> None:
    smooth = photo(2400, 1800)
    data = encode(smooth, "JPEG", quality=90)
    small = decode(data, shrink_to=256)
    assert min(small.size) >= 512
    assert max(small.size) < 2400
    full = decode(data).resize((340, 256), Image.Resampling.BILINEAR, reducing_gap=None)
    fast = small.resize((340, 256), Image.Resampling.BILINEAR, reducing_gap=None)
    assert np.abs(np.asarray(full).astype(int) - np.asarray(fast).astype(int)).mean() < 0.5
    assert decode(encode(photo(300, 200), "JPEG"), shrink_to=256).size == (300, 200)
    assert decode(encode(photo(1400, 1200), "PNG"), shrink_to=64).size == (1400, 1200)


def test_truncation_is_found_while_shrinking() -> None:
    data = encode(photo(2000, 1500), "JPEG", quality=90)
    with pytest.raises(ImageUndecodable):
        decode(data[: len(data) * 9 // 10], shrink_to=64)


def test_random_damage_never_raises_anything_else() -> None:
    pictures = [encode(photo(), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")]
    for round_number in range(300):
        data = bytearray(pictures[round_number % len(pictures)])
        for _ in range(3):
            data[int(RNG.integers(0, len(data)))] = int(RNG.integers(0, 256))
        for read in (probe, decode):
            try:
                read(bytes(data))
            except TopworkError as error:
                assert error.code in {"image_undecodable", "image_too_large"}  # noqa: PT017


def test_importing_the_decoder_is_light() -> None:
    code = "import core.images, sys; print({'numpy', 'torch', 'fastapi'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
