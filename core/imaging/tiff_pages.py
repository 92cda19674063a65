"""Which page of a TIFF is the picture, where the first one is only a preview of it.

Scanners and cameras put a small preview before the picture (TIFF 6.0, NewSubfileType), raw files of
cameras a preview before samples that no decoder of pictures reads (Adobe DNG, TIFF/EP).
"""

import struct
from contextlib import suppress
from typing import NamedTuple

from PIL import TiffImagePlugin

from core.imaging.header_limits import Directory, most_parts

MOST_PAGES = 8  # Whose headers are read; previews come first.
LEAST_TIMES = 4  # As many pixels, of the same shape, as an unmarked preview has.
SAME_SHAPE = 0.02

_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC = 254, 256, 257, 262
_MODEL, _SUB_IFDS, _DNG_VERSION = 272, 330, 50706
_REDUCED = 1
_RAW = {32803, 34892}  # Samples of a colour filter array, and linear ones of a sensor.

_FORMS = {3: "H", 4: "I"}  # Types of numbers, which stand in the directory itself.

Tiff = TiffImagePlugin.TiffImageFile


class Page(NamedTuple):
    """A page by its number, and its width and height."""

    number: int
    size: tuple[int, int]


def full_page(content: bytes, first: tuple[int, int]) -> Page:
    """Return the page that the first one is a preview of; the first one itself if it is none.

    Args:
        content: The file, whose first directory is sound.
        first: Width and height of its first page.
    """
    directory, most = Directory.first_of(content), most_parts(content)
    marked = bool(_numbers(directory, content, most).get(_NEW_SUBFILE_TYPE, 0) & _REDUCED)
    with suppress(struct.error):  # A later page that is broken is no picture.
        for number in range(1, MOST_PAGES):
            following = directory.next_of(content)
            if following is None or following.parts(content, most) > most:
                break
            directory = following
            tags = _numbers(directory, content, most)
            size = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
            larger = size[0] * size[1] > first[0] * first[1]
            if tags.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED or not larger:
                continue
            if marked or _is_larger(size, first):
                return Page(number, size)
    return Page(0, first)


def _numbers(directory: Directory, content: bytes, most: int) -> dict[int, int]:
    """Return the tags of a directory that are one whole number each."""
    return {
        tag: struct.unpack_from(directory.order + _FORMS[kind], value)[0]
        for tag, kind, count, value in directory.entries(content, most)
        if count == 1 and kind in _FORMS
    }


def is_preview(image: Tiff) -> bool:
    """Tell whether the page at which the image stands is a preview of what cannot be read."""
    tags = image.tag_v2
    if tags.get(_PHOTOMETRIC) in _RAW:
        return False
    return _is_reduced(image) or _DNG_VERSION in tags or (_SUB_IFDS in tags and _is_camera(image))


def _is_camera(image: Tiff) -> bool:
    """Tell whether the offsets of a page lead to raw samples, not to smaller copies of it.

    Pyramids keep theirs there too; they are not marked by a camera's model.
    """
    return _MODEL in image.tag_v2


def _is_reduced(image: Tiff) -> bool:
    return bool(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED)


def _is_larger(size: tuple[int, int], first: tuple[int, int]) -> bool:
    """Tell whether a page shows the same shape with many more pixels."""
    (width, height), (less, low) = size, first
    alike = abs((width / height) / (less / low) - 1) <= SAME_SHAPE
    return alike and width * height >= LEAST_TIMES * less * low
