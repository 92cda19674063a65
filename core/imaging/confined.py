"""Images whose decoder runs in a process of its own: AVIF and HEIF.

What they cost is bounded by no header: a file of some kilobytes may hold any number of hidden
pictures of any size, whatever its boxes say. So they are decoded where memory and time are bounded:
in this process if it is limited itself, else in a child that is kept for the next image. Any thread
may ask; each is served by a child of its own.
"""

import atexit
import json
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from PIL import Image, ImageFile

from core.imaging import heif
from core.imaging.process_limits import limited
from core.system.child import reader

MODULE = ("-m", heif.__name__)
KEPT = 2  # Idle children.
BYTES_PER_PIXEL = 4  # At most, whatever the mode.
MOST_PROFILE_BYTES = 16 * 1024 * 1024
MOST_LINE_BYTES = 64 * 1024
LOST = "its decoder crashed, or ran out of its time or memory"
CHANGED = "its picture is another one than its header says"


class _Child:
    """A process that reads such files, between two pipes."""

    def __init__(self) -> None:
        child, pipe = reader(*MODULE), subprocess.PIPE
        self._process = subprocess.Popen(child.command, stdin=pipe, stdout=pipe, env=child.env)
        self.used = False

    def ask(self, kind: str, content: bytes, most: int | None) -> tuple[list[Any], bytes] | None:
        """Return its answer and the bytes behind it; None where it died, or says what cannot be.

        Args:
            kind: Name of the format.
            content: The file.
            most: Bytes of its pixels; the header is asked for where None.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - both are pipes.
        self.used = True
        try:
            stdin.write(json.dumps([kind, len(content), most is not None]).encode() + b"\n")
            stdin.write(content)
            stdin.flush()
        except BrokenPipeError:
            return None
        line = stdout.readline(MOST_LINE_BYTES)
        if not line.endswith(b"\n"):
            return None
        answer = json.loads(line)
        length = answer[-1] if len(answer) > 1 else 0
        if length > (MOST_PROFILE_BYTES if most is None else most):
            return None
        body = stdout.read(length)
        return (answer, body) if len(body) == length else None

    def end(self) -> None:
        """Kill the process and forget it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # noqa: S101 - both are pipes.
            with suppress(BrokenPipeError):
                pipe.close()


_idle: list[_Child] = []
_lock = threading.Lock()


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _ask(kind: str, content: bytes, most: int | None = None) -> tuple[list[Any], bytes]:
    """Return what a child says.

    Raises:
        OSError: It cannot read the file, or was lost to it.
        MemoryError: The image does not fit into its memory.
    """
    told = None
    while told is None:
        with _lock:
            child = _idle.pop() if _idle else None
        child = child or _Child()
        fresh = not child.used
        try:
            told = child.ask(kind, content, most)
        finally:
            with _lock:
                kept = told is not None and len(_idle) < KEPT
                if kept:
                    _idle.append(child)
            if not kept:
                child.end()
        if told is None and fresh:  # A used one may have been lost to something else.
            raise OSError(LOST)
    [first, *rest] = told[0]
    if rest:
        return told
    if first == heif.OVERFLOW:
        raise MemoryError
    raise OSError(first)


def _by_child(kind: str, content: bytes) -> heif.Picture:
    [size, mode, several, orientation, _], profile = _ask(kind, content)
    width, height = size

    def pixels() -> Image.Image:
        [size, mode, *_], body = _ask(kind, content, width * height * BYTES_PER_PIXEL)
        return Image.frombytes(mode, tuple(size), body)

    return heif.Picture((width, height), mode, several, orientation, profile, pixels)


class ConfinedImage(ImageFile.ImageFile):
    """A file of these formats; as with Pillow's own, nothing is decoded before `load`.

    Attributes:
        orientation: What is left to do to stand upright, 1 to 8 as in EXIF.
    """

    orientation = 1

    def _open(self) -> None:
        assert self.fp is not None and self.format is not None  # noqa: S101, PT018 - of a subclass.
        read = heif.READERS[self.format] if limited() else partial(_by_child, self.format)
        picture = read(self.fp.read())
        self._size, self._mode = picture.size, picture.mode
        self.orientation, self.is_animated = picture.orientation, picture.several
        if picture.profile:
            self.info["icc_profile"] = picture.profile
        self._pixels: Callable[[], Image.Image] | None = picture.pixels
        self.tile = []

    def load(self) -> Any:
        """Decode the picture.

        Raises:
            OSError, RuntimeError, ValueError: It is broken.
            MemoryError: It does not fit into the memory of its decoder.
        """
        if self._pixels:
            image, self._pixels = self._pixels(), None
            if (image.size, image.mode) != (self.size, self.mode):
                raise OSError(CHANGED)
            self.im = image.im
        return super().load()


class Avif(ConfinedImage):
    """An AVIF file."""

    format = "AVIF"


class Heif(ConfinedImage):
    """An HEIF file with a picture of HEVC, as phones make them with the suffix HEIC."""

    format = "HEIF"
