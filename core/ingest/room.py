"""Whether an archive's content has room, before any of it is written."""

from pathlib import Path

from core.ingest.archive import MEBIBYTE
from core.system.disk import free_bytes
from topwork.errors import DiskFull, QuotaExceeded

SPARE_BYTES = 64 * MEBIBYTE


def check_room(folder: Path, wanted: int, quota: int | None = None) -> None:
    """Hold what is going to be stored against the owner's quota and the disk.

    Args:
        folder: Where it will be.
        wanted: Bytes of all images.
        quota: Bytes that the owner may still store; None where it does not count as theirs.

    Raises:
        QuotaExceeded, DiskFull: There is no room.
    """
    if quota is not None and wanted > quota:
        raise QuotaExceeded(f"The images take {wanted} bytes unpacked; you may store {quota} more.")
    free = free_bytes(folder)
    if free < wanted + SPARE_BYTES:
        raise DiskFull(
            f"The images need {wanted // MEBIBYTE} MiB and {SPARE_BYTES // MEBIBYTE} MiB to spare;"
            f" {free // MEBIBYTE} MiB are free."
        )
