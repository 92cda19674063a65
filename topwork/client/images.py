"""Images of any kind (path, bytes, file, array) as bytes of a file, many of them as few requests.

Neither Pillow nor numpy is imported here: only who has them can pass one of theirs.
"""

import io
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

from topwork.errors import FolderUnusable, ImageUnusable
from topwork.types.predictions import Prediction

MOST_IMAGES = 16  # Of one request; the service's default limits.
MOST_BYTES = 16 * 1024 * 1024
BYTES = (bytes, bytearray, memoryview)
FAST = 1  # Of zlib: half the time of its default for a file that is a little larger.


class Readable(Protocol):
    """A file that was opened with mode "rb"."""

    def read(self) -> bytes:
        """Return what is left of it."""
        ...


class Array(Protocol):
    """An array of numpy's, an image of Pillow's, or what else shows its memory in the same way."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Where the values lie."""
        ...


Image: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Array
Images: TypeAlias = Image | Iterable[Image]
File: TypeAlias = tuple[str, tuple[str, bytes]]  # Field of the form, name, content.


def batches(images: Images) -> Iterator[list[File]]:
    """Yield images in groups that one request may carry, as parts of its form.

    Raises:
        ImageUnusable: One of them holds no image, or there is none.
        FolderUnusable: A file cannot be read.
    """
    batch: list[File] = []
    size = number = 0
    for number, image in enumerate(_several(images), 1):
        name, data = encoded(image, number - 1)
        if batch and (len(batch) >= MOST_IMAGES or size + len(data) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(("file", (name, data)))
        size += len(data)
    if not number:
        raise ImageUnusable("There is no image to classify.")
    yield batch


def next_batch(waiting: Iterator[list[File]]) -> list[File] | None:
    """Return the next group, None behind the last one."""
    return next(waiting, None)


def joined(left: Prediction, right: Prediction) -> Prediction:
    """Return the answers of two requests as one."""
    timing = {
        name: left.timing_ms.get(name, 0.0) + value for name, value in right.timing_ms.items()
    }
    return left.model_copy(update={"results": left.results + right.results, "timing_ms": timing})


def encoded(image: Image, number: int) -> tuple[str, bytes]:
    """Return name and bytes of a file with this image.

    Raises:
        ImageUnusable: It holds no image.
        FolderUnusable: It is a path of no readable file.
    """
    name = f"image{number}"
    if isinstance(image, str | os.PathLike):
        return Path(image).name, _content(Path(image))
    if isinstance(image, BYTES):
        return name, bytes(image)
    if _is_picture(image):
        return f"{name}.png", _saved(image)
    if hasattr(image, "__array_interface__"):
        return f"{name}.png", _png(image, number)
    read = getattr(image, "read", None)
    if read is None:
        raise ImageUnusable(f"Image {number} is of the type {type(image).__name__}.")
    data = read()
    if not isinstance(data, bytes):
        raise ImageUnusable(f"Image {number} is a file that was opened as text.")
    given = getattr(image, "name", None)
    return Path(given).name if isinstance(given, str) else name, data


def _several(images: Images) -> Iterable[Image]:
    single: Any = images  # A file or an array is iterable, too.
    if isinstance(single, (str, os.PathLike, *BYTES)) or _is_picture(single):
        return [single]
    if hasattr(single, "__array_interface__") or hasattr(single, "read"):
        return [single]
    if isinstance(single, Mapping) or not isinstance(single, Iterable):
        raise ImageUnusable(f"What is of the type {type(images).__name__} holds no image.")
    return cast("Iterable[Image]", single)


def _is_picture(image: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # Who has an image of Pillow's has imported it.
    return pillow is not None and isinstance(image, pillow.Image)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FolderUnusable(f"Cannot read {path}: {error.strerror}.") from None


def _saved(picture: Any) -> bytes:
    """Return a PNG of the picture that, as the file it came from, says how it was held."""
    file = io.BytesIO()
    try:
        picture.save(file, "PNG", exif=picture.getexif())
    except (OSError, ValueError, KeyError) as error:
        hint = "Convert it: image.convert('RGB')."
        raise ImageUnusable(f"A picture cannot be sent as PNG: {error}.", hint=hint) from error
    return file.getvalue()


def _png(array: Any, number: int) -> bytes:
    """Return a PNG of uint8 samples: height x width, grey, or with 3 or 4 samples a pixel."""
    view = memoryview(array)
    colour = {(): 0, (3,): 2, (4,): 6}.get(tuple((view.shape or ())[2:]))
    if view.format != "B" or view.ndim not in (2, 3) or colour is None or 0 in (view.shape or ()):
        shape = " x ".join(map(str, view.shape or ()))
        kind = getattr(array, "dtype", view.format)
        raise ImageUnusable(f"Image {number} is an array of {shape} values of the type {kind}.")
    height, width = (view.shape or ())[:2]
    samples, row = view.tobytes(), view.nbytes // height
    lines = b"".join(b"\0" + samples[at : at + row] for at in range(0, len(samples), row))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, FAST)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
