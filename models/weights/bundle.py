"""A model as one zip file: its `card.json` and its `weights.safetensors`, and nothing else.

The exporter and the command line write it, `models.import_model` reads what strangers send. Needs
no torch.
"""

import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from topwork.errors import BundleInvalid

CARD, WEIGHTS = "card.json", "weights.safetensors"
MOST_ENTRIES = 100
LARGEST_LIST = 64 * 1024  # Bytes of the archive's list of entries.
LARGEST_CARD = 16 * 1024 * 1024
PIECE = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The last record of an archive without a comment (APPNOTE 4.3.16): magic, disks, entries here and
# in all, size and place of their list. One of zip64, before it, would overrule its numbers.
END = struct.Struct("<4s4H2LH")
END_MAGIC, ZIP64_MAGIC, ZIP64_BYTES = b"PK\x05\x06", b"PK\x06\x07", 20


def pack(target: Path, card: bytes, weights: Path) -> None:
    """Write the zip file of a model; one model always gives the same bytes.

    Args:
        target: Where it goes.
        card: Content of `card.json`.
        weights: The file `weights.safetensors`.
    """
    with zipfile.ZipFile(target, "w") as archive, weights.open("rb") as values:
        archive.writestr(zipfile.ZipInfo(CARD), card)
        with archive.open(zipfile.ZipInfo(WEIGHTS), "w", force_zip64=True) as member:
            shutil.copyfileobj(values, member, PIECE)


def unpack(bundle: Path, folder: Path) -> None:
    """Write the two files of anybody's zip file into an empty folder, under our own names.

    Nothing else in it is read. Its list of entries is held in memory and is short; the files are no
    more than twice as large as the archive, so nothing small becomes large.

    Raises:
        BundleInvalid: It is no such archive, or a damaged one.
    """
    try:
        _check_end(bundle)
        with zipfile.ZipFile(bundle) as archive:
            members = {name: archive.getinfo(name) for name in (CARD, WEIGHTS)}
            if sum(member.file_size for member in members.values()) > _most(bundle):
                raise BundleInvalid("its files are far larger than the archive")
            for name, member in members.items():
                if member.compress_type not in METHODS:
                    raise BundleInvalid(f"{name} is compressed in a way that is not read here")
                with archive.open(member) as packed, (folder / name).open("xb") as file:
                    shutil.copyfileobj(packed, file, PIECE)
    except KeyError:
        raise BundleInvalid(f"it lacks {CARD} or {WEIGHTS} at its top") from None
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError
    ) as error:  # fmt: skip
        raise BundleInvalid("it is no zip archive, or a damaged one") from error


def _most(bundle: Path) -> int:
    return 2 * bundle.stat().st_size + LARGEST_CARD


def _check_end(bundle: Path) -> None:
    """Refuse an archive whose list of entries is long, before anybody reads it."""
    with bundle.open("rb") as file:
        file.seek(max(0, bundle.stat().st_size - END.size - ZIP64_BYTES))
        tail = file.read()
    magic, *_, entries, length, _, comment = END.unpack(tail[-END.size :])
    if magic != END_MAGIC or comment or tail[: -END.size].startswith(ZIP64_MAGIC):
        raise BundleInvalid("it is no zip archive, or one with a comment, or in several parts")
    if entries > MOST_ENTRIES or length > LARGEST_LIST:
        raise BundleInvalid(f"it has more than {MOST_ENTRIES} entries")
