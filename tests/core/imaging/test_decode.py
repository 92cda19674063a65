"""The decoder policy, on real files written by Pillow or by hand."""

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
from PIL import Image, PngImagePlugin

from core.imaging.decode import ImageLimits, decode, probe
from core.imaging.formats import format_of
from tests.pictures import (
    chunk,
    encode,
    gif_of_nothing,
    photo,
    pixels_of,
    plain_png,
    png_header,
    tiff,
)
from topwork.errors import ImageTooLarge, ImageUndecodable, TopworkError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_each_format_is_read_with_its_pixels(kind: str) -> None:
    original = photo()
    options = {"quality": 95} if kind in {"JPEG", "WEBP"} else {}
    data = encode(original, kind, **options)
    info = probe(data)
    assert (info.format, info.width, info.height, info.frames) == (kind, 64, 48, 1)
    assert format_of(data[:100]) == kind
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
    "heif": (b"\0\0\0\x18ftypmif1" + bytes(40), "HEIF"),
    "heic magic only": (b"\0\0\0\x18ftypheic" + bytes(40), "broken"),
    "avif magic only": (b"\0\0\0\x18ftypavif" + bytes(40), "broken"),
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


def memory_of(*pictures: bytes) -> tuple[list[str], int]:
    """Return what a process of its own says of each picture, and the most MiB that it held."""
    code = """if True:
        import sys
        from pathlib import Path
        from topwork.errors import TopworkError
        from core.imaging.decode import probe
        for picture in map(bytes.fromhex, sys.stdin.read().split()):
            try:
                probe(picture)
            except TopworkError as error:
                print(error.code)
        print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        """
    told = " ".join(picture.hex() for picture in pictures)
    done = subprocess.run(
        [sys.executable, "-c", code], input=told, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    *said, most = done.stdout.split()
    return said, int(most) // 1024


def test_a_gif_is_not_filled_before_its_size_is_checked() -> None:
    said, most = memory_of(*(gif_of_nothing(side) for side in (8000, 20_000, 40_000)))
    assert said == ["image_too_large"] * 3
    assert most < 100
    with pytest.raises(ImageTooLarge, match="more than") as refused:
        decode(gif_of_nothing(65_535))
    assert refused.value.hint
    with pytest.raises(ImageTooLarge, match="5800 x 5800"):
        decode(gif_of_nothing(5800), ImageLimits(max_pixels=30_000_000))


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


def test_a_tiff_with_huge_tiles_is_refused() -> None:
    small = np.zeros((4, 4), dtype=np.uint8)
    assert decode(tiff(small, 8)).size == (4, 4)
    with pytest.raises(ImageTooLarge, match="60000"):
        decode(tiff(small, 8, tile=(60_000, 60_000)))


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


def test_the_larger_a_jpeg_the_fewer_scans_it_may_have() -> None:
    data = encode(photo(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:last] + data[last:-2] * 30 + data[-2:]
    assert decode(many, ImageLimits(max_pixels=2 * 64 * 48)).size == (64, 48)
    with pytest.raises(ImageTooLarge, match="scans") as refused:
        decode(many, ImageLimits(max_pixels=64 * 48))
    assert refused.value.hint
    assert decode(data, ImageLimits(max_pixels=64 * 48)).size == (64, 48)


def test_a_large_jpeg_is_decoded_at_a_size_within_the_limit() -> None:
    """As phones of 48 megapixels and more make them."""
    half = ImageLimits(max_pixels=64 * 48)
    picture = photo(128, 96)
    baseline, progressive = encode(picture, "JPEG"), encode(picture, "JPEG", progressive=True)
    assert probe(baseline, half).width == 128
    assert decode(baseline, half).size == (64, 48)
    assert decode(baseline, half, shrink_to=30).size == (64, 48)
    assert decode(baseline, half, shrink_to=5).size == (16, 12)
    exact = np.asarray(picture.resize((64, 48), Image.Resampling.BOX), np.int16)
    assert np.abs(np.asarray(decode(baseline, half), np.int16) - exact).mean() < 4
    for data in (progressive, encode(picture, "PNG"), encode(photo(129, 96), "JPEG")):
        with pytest.raises(ImageTooLarge) as caught:
            probe(data, half)
        assert "TOPWORK_MAX_IMAGE_PIXELS" in str(caught.value.hint)


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
    code = (
        "import core.imaging.decode, sys; print({'numpy', 'torch', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
