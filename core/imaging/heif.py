"""Read AVIF and HEIF with the libraries for them: `python -P -m core.imaging.heif`.

Both are boxes (ISO/IEC 23008-12) around pictures of a film codec. Called in a process with
`process_limits` alone, which this module is itself when it is run: it then answers on its pipes.
"""

import json
import sys
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from PIL import Image

from core.imaging.process_limits import CPU_SECONDS, cpu_limit, limit_process

HEADER_CPU_SECONDS = 1.0
OVERFLOW = "memory"


class Picture(NamedTuple):
    """The primary picture of a file before it is decoded.

    Attributes:
        size: Width and height of `pixels()`.
        mode: Of Pillow.
        several: Whether the file has more pictures.
        orientation: What is left to do to stand upright, 1 to 8 as in EXIF.
        profile: ICC profile; empty where there is none.
        pixels: Decodes it.
    """

    size: tuple[int, int]
    mode: str
    several: bool
    orientation: int
    profile: bytes
    pixels: Callable[[], Image.Image]


def avif(content: bytes) -> Picture:
    """Read what libavif says, which takes turning and mirroring from the boxes, not from EXIF.

    Pillow's plugin is passed by as it reads EXIF, and fails where that is broken.
    """
    from PIL import _avif  # noqa: PLC0415 - large, and needed for these files alone.

    decoder = _avif.AvifDecoder(content, "auto", 1)  # Each core decodes another image.
    size, frames, mode, profile, _, orientation, _ = decoder.get_info()

    def pixels() -> Image.Image:
        data, *_ = decoder.get_frame(0)
        return Image.frombytes(mode, size, data)

    return Picture(size, mode, frames > 1, orientation, profile or b"", pixels)


def heif(content: bytes) -> Picture:
    """Read what libheif says, which turns and mirrors while it decodes."""
    import pillow_heif  # noqa: PLC0415 - an extra.

    options = pillow_heif.options
    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    file = pillow_heif.open_heif(content)
    primary = file[file.primary_index]
    profile = primary.info.get("icc_profile")
    known = profile if isinstance(profile, bytes) else b""
    return Picture(primary.size, primary.mode, len(file) > 1, 1, known, primary.to_pillow)


READERS = {"AVIF": avif, "HEIF": heif}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the pipe is closed; what takes too long ends the process.

    A request is a line `[format, bytes, whether pixels are asked for]` and the file; an answer is a
    line with the header, or with an error, and the pixels or the profile.
    """
    while line := requests.readline():
        kind, length, whole = json.loads(line)
        content = requests.read(length)
        body = b""
        try:
            with cpu_limit(CPU_SECONDS if whole else HEADER_CPU_SECONDS):
                picture = READERS[kind](content)
                body = picture.pixels().tobytes() if whole else picture.profile
            size, mode, several, orientation, *_ = picture
            answer = [size, mode, several, orientation, len(body)]
        except MemoryError:
            answer = [OVERFLOW]
        except Exception as error:  # noqa: BLE001 - of many types, and told to whoever asked.
            answer = [str(error) or type(error).__name__]
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(body)
        answers.flush()


def main() -> None:
    """Serve between two pipes."""
    limit_process()
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
