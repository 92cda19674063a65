"""The tar reader, against archives of the standard library and against damaged and hostile ones."""

import lzma
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from core.ingest.archive import Limits, Member, plan
from core.ingest.containers import open_container, sniff
from core.ingest.tars import BLOCK, MAX_EXTENSIONS, MAX_RECORDS, Tar
from tests.archives import PACKERS, folder, gzipped, picture, special, tar_of, zip_of
from topwork.errors import ArchiveTooLarge, ArchiveUnreadable

MEBIBYTE = 1024 * 1024
MOST = 1024 * MEBIBYTE


class Archive:
    def __init__(self, tmp: Path, data: bytes, packed: str) -> None:
        path = tmp / "archive"
        path.write_bytes(PACKERS[packed](data) if packed else data)
        self.file = path.open("rb")
        self.tar = Tar(self.file, sniff, most=MOST if packed else None)
        self.members: list[Member] = list(self.tar.members())

    def read(self) -> dict[str, bytes | str]:
        wanted = [at for at, member in enumerate(self.members) if member.kind == "file"]
        names = [member.name for member in self.members]
        texts = [name if isinstance(name, str) else name.decode() for name in names]
        return {texts[at]: found for at, found in self.tar.contents(wanted)}


Open = Callable[[bytes], Archive]


@pytest.fixture(params=["", *PACKERS], ids=lambda packed: packed or "plain")
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    archives: list[Archive] = []

    def make(data: bytes) -> Archive:
        archives.append(Archive(tmp_path, data, request.param))
        return archives[-1]

    yield make
    for archive in archives:
        archive.file.close()


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_ordinary_tars_read_as_they_were_written(opened: Open, tar_format: int) -> None:
    files = folder("cat", "dog") | {"big.bin": bytes(range(256)) * 5000, "empty": b""}
    archive = opened(tar_of(files, tar_format))
    assert archive.read() == files
    assert archive.tar.damage is None
    assert {member.name: member.size for member in archive.members} == {
        name: len(data) for name, data in files.items()
    }


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(opened: Open, tar_format: int) -> None:
    files = {"é" * 60 + "/" + "x" * 200 + ".png": picture(1), "猫/1.png": picture(2)}
    assert opened(tar_of(files, tar_format)).read() == files


def test_links_pipes_and_devices_are_special(opened: Open) -> None:
    archive = opened(
        tar_of(
            {
                "soft": special(tarfile.SYMTYPE, "/etc"),
                "hard": special(tarfile.LNKTYPE, "/etc/passwd"),
                "pipe": special(tarfile.FIFOTYPE),
                "disk": special(tarfile.BLKTYPE),
                "tty": special(tarfile.CHRTYPE),
                "dir": special(tarfile.DIRTYPE),
                "a/1.png": picture(1),
            }
        )
    )
    kinds = ["link", "link", "special", "special", "special", "folder", "file"]
    assert [member.kind for member in archive.members] == kinds
    assert archive.read() == {"a/1.png": picture(1)}


def test_sparse_files_are_special_and_what_follows_is_read(opened: Open) -> None:
    sparse = bytearray(special(tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    sparse[482] = 1  # One more block of extents follows.
    sparse[148:156] = b" " * 8
    sparse[148:155] = b"%06o\0" % sum(sparse)
    archive = opened(bytes(sparse) + bytes(BLOCK) + tar_of({"a/1.png": picture(1)}))
    assert [member.kind for member in archive.members] == ["special", "file"]
    assert archive.read() == {"a/1.png": picture(1)}
    info = tarfile.TarInfo("a/x.png")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999999"}
    assert [member.kind for member in opened(tar_of({"a/x.png": info})).members] == ["special"]


@pytest.mark.parametrize("cut", [100, 700, 1100])
def test_what_came_before_a_cut_is_kept(opened: Open, cut: int) -> None:
    files = {f"cat/{number}.bin": bytes([number]) * 600 for number in range(3)}
    data = tar_of(files)
    archive = opened(data[: 2 * (BLOCK + 1024) + cut])
    assert archive.tar.damage is not None
    found = archive.read()
    good = {name: data for name, data in found.items() if isinstance(data, bytes)}
    assert [*good] == ["cat/0.bin", "cat/1.bin"] if cut < 1112 else list(files)
    assert good.items() <= files.items()
    assert set(found.values()) - set(good.values()) <= {"entry_truncated"}


def test_damage_in_the_middle_is_reported(opened: Open) -> None:
    data = bytearray(tar_of(folder("cat", count=4)))
    at = 2 * BLOCK
    data[at : at + BLOCK] = b"\x55" * BLOCK
    archive = opened(bytes(data))
    assert [member.name for member in archive.members] == ["cat/0.png"]
    assert archive.tar.damage is not None


def test_a_damaged_gzip_stream_keeps_what_came_before(tmp_path: Path) -> None:
    noise = {f"cat/{number}.bin": zlib.compress(bytes([number]) * 9) * 3000 for number in range(9)}
    data = bytearray(gzipped(tar_of(noise)))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "x"
    path.write_bytes(data)
    with path.open("rb") as file:
        tar = Tar(file, sniff, most=MOST)
        members = list(tar.members())
    assert tar.damage is not None
    assert 0 < len(members) < 9


def signed(header: bytearray) -> bytes:
    """Make a header's checksum right."""
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_negative_sizes_do_not_lead_back(opened: Open, kind: bytes) -> None:
    header = bytearray(special(kind).tobuf())
    header[124:136] = b"\xff" * 12  # CVE-2025-8194
    archive = opened(tar_of({"cat/1.png": picture(1)})[: 2 * BLOCK] + signed(header) + bytes(2048))
    assert [member.name for member in archive.members] == ["cat/1.png"]


def test_extended_headers_are_bounded(opened: Open) -> None:
    def with_comment(size: int) -> Archive:
        info = tarfile.TarInfo("cat/2.png")
        info.pax_headers = {"comment": "x" * size}
        return opened(tar_of({"cat/1.png": picture(1), "cat/2.png": info, "cat/3.png": b"x"}))

    assert len(with_comment(300_000).members) == 3
    archive = with_comment(2 * MEBIBYTE)
    assert [member.name for member in archive.members] == ["cat/1.png"]
    assert archive.tar.damage is not None


def extension(records: Mapping[str, str]) -> bytes:
    """Return a pax header about the next member."""
    info = tarfile.TarInfo("x")
    info.pax_headers = dict(records)
    return info.tobuf(tarfile.PAX_FORMAT)[:-BLOCK]


def test_hostile_headers_fill_no_memory(opened: Open) -> None:
    def records(start: int) -> bytes:
        return extension({f"k{start + at}": "v" * 10_000 for at in range(100)})

    most = b"".join(records(100 * at) for at in range(MAX_EXTENSIONS))
    names = b"".join(
        extension({"path": "./" * 400_000 + f"cat/{at}.png"}) + tar_of({"x": b"x"})[: 2 * BLOCK]
        for at in range(20)
    )
    first = tar_of({"cat/1.png": b"x"})[: 2 * BLOCK]
    data = most + first + names + tar_of({"cat/2.png": b"x"})
    archive = opened(data)
    tracemalloc.start()
    try:
        planned = plan(archive.tar.members(), Limits())
        peak = tracemalloc.get_traced_memory()[1] - len(data)
    finally:
        tracemalloc.stop()
    assert sorted(planned.files.values()) == ["cat/1.png", "cat/2.png"]
    assert [refusal.code for refusal in planned.refusals] == ["path_too_long"] * 20
    assert peak < 6 * MEBIBYTE


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(extension({"comment": "x"}) for _ in range(MAX_EXTENSIONS + 1)),
        extension({f"k{at}": "" for at in range(MAX_RECORDS + 1)}),
    ],
    ids=["many headers", "many records"],
)
def test_more_headers_than_any_tool_writes_are_damage(opened: Open, headers: bytes) -> None:
    first = tar_of({"cat/1.png": b"x"})[: 2 * BLOCK]
    archive = opened(first + headers + tar_of({"cat/2.png": b"x"}))
    assert [member.name for member in archive.members] == ["cat/1.png"]
    assert archive.tar.damage is not None


@pytest.mark.parametrize("packed", PACKERS)
def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: str) -> None:
    monkeypatch.setattr("core.ingest.tars.BOMB_FROM", 4 * MEBIBYTE)
    data = tar_of({"a/0.png": bytes(6 * MEBIBYTE)})
    path = tmp_path / "bomb"
    path.write_bytes(PACKERS[packed](data))
    with path.open("rb") as file, pytest.raises(ArchiveTooLarge, match="100 times"):
        list(Tar(file, sniff, most=MOST).members())
    monkeypatch.setattr("core.ingest.tars.BOMB_FROM", MOST)
    with path.open("rb") as file, pytest.raises(ArchiveTooLarge, match="bytes"):
        list(Tar(file, sniff, most=5 * MEBIBYTE).members())
    path.write_bytes(data)
    with path.open("rb") as file:
        assert len(list(Tar(file, sniff, most=None).members())) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a readable"),
        (b"hello" * 200, "not a readable"),
        (bytes(2048), "not a readable"),
        (picture(1, "JPEG"), "not a readable"),
        (gzipped(b"hello" * 500), "not a readable"),
        (gzipped(b"")[:5], "not a readable"),
        *((pack(b"hello" * 500), "not a readable") for pack in PACKERS.values()),
        *((pack(zip_of(folder("cat"))), "compressed once more") for pack in PACKERS.values()),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "web page"),
        (b"\n  <HTML><body>Sign in</body></HTML>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"Rar!\x1a\x07\x01\0", "RAR"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "upload"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(ArchiveUnreadable, match=words) as caught:
        list(open_container(file, Limits()).members())
    assert caught.value.hint or words != "not a readable"


@pytest.mark.parametrize("packed", PACKERS)
def test_streams_may_follow_one_another(tmp_path: Path, packed: str) -> None:
    data, pack = tar_of(folder("cat", "dog")), PACKERS[packed]
    path = tmp_path / "archive"
    padding = bytes(8) if packed == "xz" else b""
    path.write_bytes(pack(data[:700]) + padding + pack(data[700:1500]) + pack(data[1500:]))
    with path.open("rb") as file:
        tar = Tar(file, sniff, most=MOST)
        assert len(list(tar.members())) == len(folder("cat", "dog"))
        assert tar.damage is None


@pytest.mark.parametrize("packed", PACKERS)
def test_a_stream_that_was_cut_off_keeps_what_came_before(tmp_path: Path, packed: str) -> None:
    files = {f"cat/{n}.png": np.random.default_rng(n).bytes(300_000) for n in range(8)}
    whole = PACKERS[packed](tar_of(files))
    path = tmp_path / "archive"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with path.open("rb") as file:
        tar = Tar(file, sniff, most=MOST)
        members = list(tar.members())
        assert 1 < len(members) < len(files)
        assert tar.damage is not None
        good = [at for at, member in enumerate(members) if member.flaw is None]
        assert [data for _, data in tar.contents(good)] == list(files.values())[: len(good)]


def test_a_stream_that_asks_for_much_memory_is_not_read(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 30}]
    # A window of 2 GiB: the frame header's descriptor alone (RFC 8878, 3.1.1.1.2).
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    for data in (lzma.compress(tar_of(folder("cat")), filters=filters), frame):
        path = tmp_path / "archive"
        path.write_bytes(data)
        with path.open("rb") as file, pytest.raises(ArchiveUnreadable):
            list(open_container(file, Limits()).members())


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hard_links_have_the_content_of_the_file_they_name(opened: Open, tar_format: int) -> None:
    long = f"dog/{'x' * 120}é.png"
    files: dict[str, bytes | tarfile.TarInfo] = {
        "cat/1.png": picture(1),
        long: picture(2),
        "owl/1.png": special(tarfile.LNKTYPE, "cat/1.png"),
        "owl/2.png": special(tarfile.LNKTYPE, long),
        "owl/3.png": special(tarfile.LNKTYPE, "/etc/passwd"),
        "owl/4.png": special(tarfile.LNKTYPE, "owl/5.png"),
        "owl/5.png": special(tarfile.LNKTYPE, "owl/1.png"),
        "notes.txt": b"text",
        "owl/6.png": special(tarfile.LNKTYPE, "notes.txt"),
    }
    planned = plan(opened(tar_of(files, tar_format)).members, Limits())
    shared = {planned.files[link]: planned.files[at] for link, at in planned.copies.items()}
    assert shared == {"owl/1.png": "cat/1.png", "owl/2.png": long, "owl/5.png": "cat/1.png"}
    links = {it.path for it in planned.refusals if it.code == "link"}
    assert links == {"owl/3.png", "owl/4.png", "owl/6.png"}


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(tar_of({"cat/1.png": picture(1), "x.zip": zip_of(folder("evil"))}))
    with path.open("rb") as file:
        assert isinstance(open_container(file, Limits()), Tar)


def test_nothing_is_read_behind_the_last_wanted_member(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    noise = {f"{n}.png": np.random.default_rng(n).bytes(1_000_000) for n in range(4)}
    path.write_bytes(gzipped(tar_of({"README.txt": b"Pets."} | noise)))
    with path.open("rb", buffering=0) as file:
        container = Tar(file, sniff, most=100_000_000)
        assert list(container.contents([0])) == [(0, b"Pets.")]
        assert file.tell() < 1_000_000
        assert list(container.contents([])) == []
