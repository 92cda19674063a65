"""The zip reader, against archives of the standard library and against hand-made lies."""

import io
import time
import tracemalloc
import zipfile
from itertools import islice

import pytest

from core.ingest.archive import Limits, Member, clean
from core.ingest.containers import open_container, sniff
from core.ingest.zips import Zip
from tests.archives import Entry, folder, honest, picture, raw_zip, unicode_path, zip_of
from topwork.errors import ArchiveUnreadable

MOST = 1000
ZEROS = bytes(4 * 1024 * 1024)


def listed(data: bytes, most: int = MOST) -> list[Member]:
    return list(Zip(io.BytesIO(data), sniff, most).members())


def read(data: bytes) -> dict[str | bytes, bytes | str]:
    archive = Zip(io.BytesIO(data), sniff, MOST)
    members = list(archive.members())
    return {members[at].name: found for at, found in archive.contents(range(len(members)))}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_ordinary_zips_read_as_they_were_written(compression: int) -> None:
    files = folder("cat", "dög") | {"big.bin": ZEROS}
    assert read(zip_of(files, compression)) == files


def test_streamed_zips_with_descriptors_are_read() -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in folder("cat").items():
            archive.writestr(name, data)
    assert read(out.getvalue()) == folder("cat")
    entries = [Entry(b"a/1.png", picture(1), descriptor=True)]
    assert read(raw_zip(entries)) == {"a/1.png": picture(1)}


def test_zip64_is_read() -> None:
    files = folder("cat", "dog")
    assert read(raw_zip(honest(files), zip64=True)) == files


def test_a_zip_behind_other_bytes_is_read() -> None:
    files = folder("cat")
    assert read(picture(1, "JPEG") + zip_of(files)) == files
    assert isinstance(open_container(io.BytesIO(picture(1, "JPEG") + zip_of(files)), Limits()), Zip)


def test_names_are_text_only_where_the_archive_says_what_their_bytes_mean() -> None:
    gbk, cafe = "猫/1.png".encode("gbk"), "café/2.png".encode("cp850")
    names = [
        Entry("é/1.png".encode(), b"x", flags=0x800),
        Entry(b"\xff\xfe/2.png", b"x", flags=0x800),
        Entry(b"cat/1.png", b"x", flags=0),
        Entry("é/3.png".encode(), b"x", flags=0),
        Entry(gbk, b"x", flags=0),
        Entry(gbk, b"x", flags=0, extra=unicode_path(gbk, "猫/1.png")),
        Entry(cafe, b"x", flags=0, extra=b"\x99\x99\x02\x00ab" + unicode_path(cafe, "café/2.png")),
    ]
    found = [member.name for member in listed(raw_zip(names))]
    assert found[:3] == ["é/1.png", "\udcff\udcfe/2.png", "cat/1.png"]
    assert found[3:5] == ["é/3.png".encode(), gbk]
    assert found[5:] == ["猫/1.png", "café/2.png"]


@pytest.mark.parametrize(
    "extra",
    [
        unicode_path(b"other.png", "猫/1.png"),  # Renamed by a tool that leaves the field.
        unicode_path("猫/1.png".encode("gbk"), "猫/1.png", version=2),
        unicode_path("猫/1.png".encode("gbk"), "猫/1.png")[:-1] + b"\xff",
        unicode_path("猫/1.png".encode("gbk"), "")[:8],
        b"\x75\x70\xff\xff\x01",
    ],
)
def test_a_unicode_path_that_does_not_fit_is_not_believed(extra: bytes) -> None:
    name = "猫/1.png".encode("gbk")
    (member,) = listed(raw_zip([Entry(name, b"x", flags=0, extra=extra)]))
    assert member.name == name


def test_a_name_that_was_cut_decides_nothing() -> None:
    name = ("猫" * 700).encode("gbk") + b"/1.png"
    (member,) = listed(raw_zip([Entry(name, b"x", flags=0)]))
    assert isinstance(member.name, str)
    assert clean(member.name)[1] == "path_too_long"


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        (Entry(b"a.png", b"x", flags=0x801), "encrypted"),
        (Entry(b"a.png", b"x", method=9), "compression_unsupported"),
        (Entry(b"a.png", b"x", method=12), "compression_unsupported"),
        (Entry(b"a.png", b"x", method=14), "compression_unsupported"),
        (Entry(b"a.png", b"x" * 9, method=0, size=5), "size_mismatch"),
        (Entry(b"a.png", bytes(range(256)) * 40, method=8, size=5), None),
        (Entry(b"a.png", b"", packed=b"x" * 9000, size=5), "size_mismatch"),
    ],
)
def test_flaws_are_seen_in_the_directory(entry: Entry, flaw: str | None) -> None:
    assert [member.flaw for member in listed(raw_zip([entry]))] == [flaw]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (Entry(b"a.png", ZEROS, size=100), "size_mismatch"),
        (Entry(b"a.png", b"x" * 100, size=200), "size_mismatch"),
        (Entry(b"a.png", b"x" * 100, crc=1), "entry_corrupt"),
        (Entry(b"a.png", b"x" * 100, packed=b"\xff\xff\xff"), "entry_corrupt"),
        (Entry(b"a.png", b"x" * 100, packed=b""), "entry_corrupt"),
        (Entry(b"a.png", b"x" * 100, offset=50), "entry_corrupt"),
        (Entry(b"a.png", b"x" * 100, offset=2**31), "entry_corrupt"),
    ],
)
def test_lies_are_seen_while_reading(entry: Entry, problem: str) -> None:
    data = raw_zip([entry, Entry(b"b.png", b"good")])
    assert read(data) == {"a.png": problem, "b.png": b"good"}


def test_no_more_is_inflated_than_was_declared() -> None:
    data = raw_zip([Entry(b"a.png", bytes(64 * 1024 * 1024), size=1000)])
    tracemalloc.start()
    assert read(data) == {"a.png": "size_mismatch"}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


def test_overlapping_members_are_flawed() -> None:
    kernel = Entry(b"a.png", picture(1), method=0)
    again = Entry(b"b.png", picture(1), method=0, offset=0)
    apart = Entry(b"c.png", picture(2), method=0)
    flaws = [member.flaw for member in listed(raw_zip([kernel, again, apart]))]
    assert flaws == ["entries_overlap", "entries_overlap", None]


def test_kinds_come_from_names_and_unix_modes() -> None:
    modes = {b"dir/": 0, b"win\\": 0, b"link": 0o120777, b"pipe": 0o010644, b"suid": 0o104755}
    entries = [
        Entry(name, b"" if name.endswith((b"/", b"\\")) else b"x", attributes=mode << 16)
        for name, mode in modes.items()
    ]
    kinds = [member.kind for member in listed(raw_zip(entries))]
    assert kinds == ["folder", "folder", "link", "special", "file"]


def test_content_is_looked_at_only_without_an_image_suffix() -> None:
    files = {
        "a/photo": picture(1),
        "a/b.dat": zip_of({"x": b""}),
        "a/t.txt": b"hello",
        "a/x.jpg": b"x",
    }
    contents = [member.content for member in listed(zip_of(files))]
    assert contents == ["image", "archive", "other", "unknown"]


@pytest.mark.parametrize("keep", [10, 100, -60, -23, -1])
def test_cut_off_zips_are_named_as_such(keep: int) -> None:
    data = zip_of(folder("cat"))[:keep]
    with pytest.raises(ArchiveUnreadable, match="ends early"):
        Zip(io.BytesIO(data), sniff, MOST)


def test_a_zip_cut_off_behind_an_inner_zip_is_not_taken_for_it() -> None:
    inner = zip_of({"evil/1.png": picture(1)})
    whole = zip_of({"cat/1.png": picture(2), "inner.zip": inner}, zipfile.ZIP_STORED)
    cut = whole[: whole.index(inner) + len(inner)]
    with pytest.raises(ArchiveUnreadable, match="ends early"):
        Zip(io.BytesIO(cut), sniff, MOST)


def test_a_damaged_directory_is_named_as_such() -> None:
    data = bytearray(zip_of(folder("cat")))
    data[data.index(b"PK\1\2")] = 0
    with pytest.raises(ArchiveUnreadable, match="table of contents"):
        Zip(io.BytesIO(bytes(data)), sniff, MOST)


def test_a_quarter_of_a_million_members_are_not_all_looked_at() -> None:
    entry = raw_zip([Entry(b"x", b"", method=0)])
    at = entry.index(b"PK\1\2")
    record = entry[at : at + 47]
    head, end = entry[:at], bytearray(entry[at + 47 :])
    end[12:16] = (47 * 250_000).to_bytes(4, "little")
    end[16:20] = len(head).to_bytes(4, "little")
    data = io.BytesIO(head + record * 250_000 + bytes(end))
    started = time.process_time()
    archive = Zip(data, sniff, MOST)
    assert len(list(islice(archive.members(), MOST + 5))) == MOST + 1
    assert time.process_time() - started < 1
