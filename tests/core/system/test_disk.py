"""One answer to whether there is room: bytes, inodes, and a reserve that small disks can bear."""

import os
from pathlib import Path

import pytest

from core.system.disk import lacking, require
from tests.disks import disk_with
from topwork.errors import DiskFull

MEGABYTE = 10**6


@pytest.mark.parametrize(
    ("stat", "size", "missing"),
    [
        (disk_with(300 * MEGABYTE), 200 * MEGABYTE, None),
        (disk_with(299 * MEGABYTE), 200 * MEGABYTE, "300 MB of free disk, and 299 MB are free"),
        # A twentieth of a small disk is less than what is to stay free.
        (disk_with(15 * MEGABYTE, total=200 * MEGABYTE), 5 * MEGABYTE, None),
        (disk_with(14 * MEGABYTE, total=200 * MEGABYTE), 5 * MEGABYTE, "15 MB of free disk"),
        (disk_with(10**12, 1000), 0, None),
        (disk_with(10**12, 999), 0, "1000 free inodes of the disk, and 999 are free"),
        (os.statvfs_result((1, 1, 10**13, 10**12, 10**12, 0, 0, 0, 0, 255)), 0, None),
    ],
)
def test_there_is_room_or_it_is_said_what_lacks(
    monkeypatch: pytest.MonkeyPatch, stat: os.statvfs_result, size: int, missing: str | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _folder: stat)
    found = lacking(Path("/"), size, 100 * MEGABYTE)
    assert found is None if missing is None else missing in str(found)
    if missing:
        with pytest.raises(DiskFull, match="needs"):
            require(Path("/"), size, 100 * MEGABYTE)
