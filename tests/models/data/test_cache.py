"""Rows computed once: across kills, damage, other processes and other sets of images."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data import cache
from models.data.cache import Cache
from models.data.rows import Kind, Make, Rows
from tests.models.staging import ROOT
from tests.waiting import wait_for
from topwork.errors import DiskFull

KIND = Kind("test", {"of": "numbers"}, (3, 5), np.float32)

CHILD = """
import sys, time
from pathlib import Path
from tests.models.data import test_cache as t

def between():
    if len(sys.argv) > 2:
        Path(sys.argv[2]).touch()
        time.sleep(600)

made = []
found = t.Cache(Path(sys.argv[1]), between).rows(t.KIND, t.names(40), t.maker(made))
assert (t.taken(found) == t.wanted(40)).all()
print(len(made))
"""


@pytest.fixture(params=[0, cache.HELD_BYTES], ids=["read each time", "held"], autouse=True)
def _held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "HELD_BYTES", request.param)


def names(count: int, start: int = 0) -> list[bytes]:
    return [hashlib.sha256(b"%d" % n).digest() for n in range(start, start + count)]


def wanted(count: int, start: int = 0) -> NDArray[np.float32]:
    numbers = np.arange(start, start + count, dtype=np.float32)[:, None, None]
    return np.broadcast_to(numbers, (count, 3, 5)).copy()


def maker(made: list[int], start: int = 0, batch: int = 8) -> Make:
    """Say in `made` which rows were computed."""

    def make(missing: list[int]) -> Iterator[NDArray[Any]]:
        for at in range(0, len(missing), batch):
            part = missing[at : at + batch]
            made.extend(part)
            yield np.concatenate([wanted(1, start + number) for number in part])

    return make


def taken(found: Rows) -> NDArray[Any]:
    return found.take(np.arange(len(found)))


def rows(store: Cache, count: int, start: int = 0, kind: Kind = KIND) -> tuple[Rows, list[int]]:
    made: list[int] = []
    found = store.rows(kind, names(count, start), maker(made, start))
    assert (taken(found) == wanted(count, start)).all()
    return found, made


def nothing() -> None:
    pass


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.bin"))


def child(folder: Path, *more: Path) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", CHILD, str(folder), *map(str, more)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_rows_are_made_once(tmp_path: Path) -> None:
    assert rows(Cache(tmp_path, nothing), 20)[1] == list(range(20))
    assert rows(Cache(tmp_path, nothing), 20)[1] == []
    other = Kind("test", {"of": "other numbers"}, (3, 5), np.float32)
    assert len(rows(Cache(tmp_path, nothing), 20, kind=other)[1]) == 20
    assert rows(Cache(tmp_path, nothing), 0)[1] == []


def test_a_killed_process_loses_at_most_one_part(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    with child(tmp_path / "rows", sign) as first:
        wait_for(sign.exists)
        first.kill()
    assert rows(Cache(tmp_path / "rows", nothing), 40)[1] == list(range(8, 40))


def test_two_processes_share_the_work_of_one(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    with child(tmp_path / "rows", sign) as first:
        wait_for(sign.exists)
        with child(tmp_path / "rows") as second:
            assert second.stdout is not None
            time.sleep(0.5)  # It may or may not wait already; the outcome is the same.
            assert second.poll() is None
            first.kill()
            assert second.stdout.read() == "32\n"


def test_a_frozen_process_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "STUCK_SECONDS", 0.2)
    sign = tmp_path / "sign"
    with child(tmp_path / "rows", sign) as frozen:
        wait_for(sign.exists)
        assert len(rows(Cache(tmp_path / "rows", nothing), 40)[1]) == 32
        frozen.kill()


@pytest.mark.parametrize("where", [0, 60 * 7 + 3, 20 * 60 + 5, -1])
def test_a_damaged_row_is_made_again(tmp_path: Path, where: int) -> None:
    rows(Cache(tmp_path, nothing), 20)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    assert len(rows(Cache(tmp_path, nothing), 20)[1]) == 1
    assert rows(Cache(tmp_path, nothing), 20)[1] == []


@pytest.mark.parametrize("size", [0, 1, 20 * 100 - 1, 20 * 100 + 1])
def test_a_file_of_another_length_is_replaced(tmp_path: Path, size: int) -> None:
    rows(Cache(tmp_path, nothing), 20)
    (file,) = files(tmp_path)
    assert file.stat().st_size == 20 * 100
    os.truncate(file, size)
    assert len(rows(Cache(tmp_path, nothing), 20)[1]) == 20


def test_rows_of_another_set_are_copied(tmp_path: Path) -> None:
    rows(Cache(tmp_path, nothing), 20)
    assert rows(Cache(tmp_path, nothing), 15, start=10)[1] == list(range(10, 15))


def test_a_row_that_stands_twice_in_a_set_is_right_twice(tmp_path: Path) -> None:
    rows(Cache(tmp_path, nothing), 3)
    twice = names(2) + names(2)
    found = Cache(tmp_path, nothing).rows(
        KIND, twice, lambda missing: iter([wanted(2)[[n % 2 for n in missing]]])
    )
    assert (taken(found) == np.concatenate([wanted(2), wanted(2)])).all()


def test_the_budget_holds_and_the_oldest_goes(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    store = Cache(own, nothing, shared, budget=4500)  # Two files of 2000 bytes.
    for start in (0, 100):
        rows(store, 20, start)
    rows(store, 20, 0)  # Now the other one is the oldest.
    rows(store, 20, 200)
    assert len(files(shared)) == 2
    assert rows(store, 20, 0)[1] == []
    assert rows(store, 60, 300)[1]  # Larger than the budget: kept for this run only.
    assert len(files(own)) == 1


def test_what_a_run_uses_stays(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    store = Cache(own, nothing, shared, budget=2500)
    held, _ = rows(store, 20)
    rows(store, 20, 100)
    assert len(files(own)) == len(files(shared)) == 1
    assert (taken(held) == wanted(20)).all()
    del held
    rows(store, 20, 200)
    assert len(files(shared)) == 1


def test_an_interrupted_file_can_be_removed_meanwhile(tmp_path: Path) -> None:
    """Whoever waits for a file that goes away makes a new one."""
    rows(Cache(tmp_path, nothing), 20)
    (file,) = files(tmp_path)
    looked: list[int] = []

    def between() -> None:
        if not looked:
            looked.append(1)
            file.unlink()
            os.close(handle)

    handle = os.open(file, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert len(rows(Cache(tmp_path, between), 20)[1]) == 20
    assert rows(Cache(tmp_path, nothing), 20)[1] == []


def test_a_full_disk_has_a_name_and_leaves_no_file(tmp_path: Path) -> None:
    vast = Kind("test", {}, (1 << 40,), np.float32)
    with pytest.raises(DiskFull, match="GB"):
        Cache(tmp_path, nothing).rows(vast, names(100), maker([]))
    assert not files(tmp_path)


def test_a_wish_to_stop_is_heard_between_parts(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def between() -> None:
        raise Stop

    made: list[int] = []
    for count in (8, 16, 20):
        with pytest.raises(Stop):
            Cache(tmp_path, between).rows(KIND, names(20), maker(made))
        assert made == list(range(count))
    assert rows(Cache(tmp_path, between), 20)[1] == []
