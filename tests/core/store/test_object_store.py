import os
from pathlib import Path

import pytest

from core.store.object_store import WHOLE, Storage
from core.system.atomic_files import sha256
from topwork.errors import NotFound


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(f"file://{tmp_path}/objects")
    return Storage(request.getfixturevalue("s3"))


def test_what_was_put_comes_back(storage: Storage, tmp_path: Path) -> None:
    storage.put_bytes("models/job_1/1/card.json", b"{}")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3_000_000))
    storage.put_file("shards/abc.tar", big)
    assert storage.get_bytes("models/job_1/1/card.json") == b"{}"
    assert b"".join(storage.stream("shards/abc.tar")) == big.read_bytes()
    assert storage.get_range("shards/abc.tar", 1000, 10) == big.read_bytes()[1000:1010]
    target = tmp_path / "deep" / "copy"
    assert storage.fetch("shards/abc.tar", target) == sha256(big)
    assert target.read_bytes() == big.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["copy"]


def test_a_fetched_file_shares_no_byte_with_its_object(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}/objects")
    storage.put_bytes("a", b"as it was")
    storage.fetch("a", tmp_path / "copy")
    (tmp_path / "objects" / "a").write_bytes(b"otherwise")
    assert (tmp_path / "copy").read_bytes() == b"as it was"
    assert (tmp_path / "copy").stat().st_nlink == 1


@pytest.mark.parametrize("size", [0, 1000, WHOLE, WHOLE + 1])
def test_a_file_is_hashed_as_it_is_stored(storage: Storage, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    assert storage.put_hashed("a/b", source) == sha256(source)
    assert storage.get_bytes("a/b") == source.read_bytes()


def test_what_was_hashed_as_it_was_stored_does_not_follow_its_source(
    storage: Storage, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"as it was")
    storage.put_hashed("a", source)
    with source.open("r+b") as file:
        file.write(b"otherwise")
    assert storage.get_bytes("a") == b"as it was"


def test_put_replaces_and_delete_forgets(storage: Storage) -> None:
    storage.put_bytes("a/b", b"one")
    storage.put_bytes("a/b", b"two")
    assert storage.get_bytes("a/b") == b"two"
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")


def test_what_is_absent_is_not_found(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        storage.get_bytes("no/such")
    with pytest.raises(NotFound):
        storage.fetch("no/such", tmp_path / "x")
    with pytest.raises(NotFound):
        list(storage.stream("no/such"))
    assert list(tmp_path.glob("*.part")) == []


def test_list_and_delete_by_prefix(storage: Storage) -> None:
    for key in ("m/1/a", "m/1/b", "m/2/a"):
        storage.put_bytes(key, b"x")
    assert storage.list("m/1") == ["m/1/a", "m/1/b"]
    storage.delete_prefix("m/1")
    assert storage.list("m") == ["m/2/a"]


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../b", "", "a//b", ".hidden", "a b"])
def test_keys_that_are_no_keys_are_refused(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        storage.put_bytes(key, b"x")


def test_an_object_is_synced_before_its_rename_and_every_folder_above_it_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "new" / "objects"
    target = root / "models" / "job_1" / "1" / "card.json"
    synced: list[tuple[Path, bool]] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), target.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    storage = Storage(f"file://{root}")
    assert [path for path, _ in synced] == [tmp_path, tmp_path / "new"]
    above = [root / "models/job_1/1", root / "models/job_1", root / "models"]
    # Whoever made the folders before: only the root was synced, with `models` in it, by ourselves.
    for expected in ([*above, root], above):
        synced.clear()
        storage.put_bytes("models/job_1/1/card.json", b"{}")
        (draft, early), *folders = synced
        assert (draft.name, early) == ("draft", False)
        assert folders == [(folder, True) for folder in expected]
        target.unlink()


def test_a_root_that_is_made_is_for_its_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Storage(f"file://{tmp_path}/data/objects")
    finally:
        os.umask(before)
    for folder in (tmp_path / "data", tmp_path / "data" / "objects"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_stored_file_survives_its_source(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}/objects")
    source = tmp_path / "source"
    source.write_bytes(b"kept")
    storage.put_file("a", source)
    source.unlink()
    assert storage.get_bytes("a") == b"kept"
    assert sorted(p.name for p in (tmp_path / "objects").iterdir()) == ["a"]
