"""How many cores a process may use, bare or in a container, and what its files lie on."""

import os
from pathlib import Path

import pytest

from core.system.machine import cores, filesystem, memory


@pytest.fixture(autouse=True)
def _no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("150000 100000", 1), ("300000 100000", 3), ("50000 100000", 1), ("", 8)],
)
def test_a_quota_bounds_the_affinity(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("150000", 1), ("300000", 3)])
def test_a_quota_of_the_first_version_bounds_as_well(
    tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cores(tmp_path) == expected


GIBIBYTE = 1 << 30


@pytest.mark.parametrize(
    ("place", "said", "expected"),
    [
        ("memory.max", "max", 64 * GIBIBYTE),
        ("memory.max", str(3 * GIBIBYTE), 3 * GIBIBYTE),
        ("memory.max", str(128 * GIBIBYTE), 64 * GIBIBYTE),
        ("memory.max", "", 64 * GIBIBYTE),
        ("memory/memory.limit_in_bytes", "9223372036854771712", 64 * GIBIBYTE),
        ("memory/memory.limit_in_bytes", str(2 * GIBIBYTE), 2 * GIBIBYTE),
    ],
)
def test_a_limit_bounds_the_machines_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str, expected: int
) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIBIBYTE // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert memory(tmp_path) == 64 * GIBIBYTE
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(f"{said}\n")
    assert memory(tmp_path) == expected


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert cores(tmp_path) == 8


@pytest.mark.parametrize(("share", "expected"), [("2", 2), ("0", 8), ("", 8), ("many", 8)])
def test_a_given_share_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", share)
    assert cores(tmp_path) == expected


def test_the_filesystem_of_a_path_is_the_last_mount_of_its_longest_place(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nnas:/x /data nfs4 rw 0 0\n"
        "/dev/b /data/my\\040disk xfs rw 0 0\n/dev/c /data/my\\040disk btrfs rw 0 0\n"
    )
    kinds = {"/home/me": "ext4", "/data/x": "nfs4", "/data/my disk/y": "btrfs", "/database": "ext4"}
    assert {path: filesystem(Path(path), mounts) for path in kinds} == kinds
    assert filesystem(Path("/x"), tmp_path / "none") == ""
