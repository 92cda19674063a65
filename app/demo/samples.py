"""Images for the demo: scikit-learn's digits as a folder, and the files of any source."""

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from core.system.command_names import install
from topwork.errors import TopworkError

SIDE = 32
BRIGHTEST = 16  # Of a digit's grey values.


class DigitsMissing(TopworkError):
    """The demo's images come with scikit-learn, which is not installed."""

    status, code = 422, "digits_missing"
    hint = "Pass --data with images of your own."


def digits(folder: Path) -> Path:
    """Write the 1797 handwritten digits as PNG files, one folder a class, and return the folder.

    Raises:
        DigitsMissing: scikit-learn is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - only the demo needs these.
        from sklearn.datasets import load_digits  # noqa: PLC0415 - as above.
    except ImportError as error:
        hint = f"Install it with {install('demo')}, or pass --data with images of your own."
        raise DigitsMissing(hint=hint) from error
    data = load_digits()
    for number, (values, target) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / str(target) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (values * (255 / BRIGHTEST)).astype("uint8")
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return folder


def images_in(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every regular file in a folder, a zip or a tar, one at a time."""
    if source.is_dir():
        yield from (
            (path.relative_to(source).as_posix(), path.read_bytes())
            for path in sorted(source.rglob("*"))
            if path.is_file()
        )
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            yield from (
                (one.filename, archive.read(one)) for one in archive.infolist() if not one.is_dir()
            )
    else:
        with tarfile.open(source) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name, file.read()
