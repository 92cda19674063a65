"""Which encoding names are taken to be in, and when that is a question."""

import io
import tarfile
import time
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from core.ingest.archive import Limits, Member, plan
from core.ingest.name_encoding import decide
from tests.archives import Entry, folder, legacy_zip, picture, raw_zip, unicode_path
from tests.core.ingested import Ingest
from topwork.errors import NameEncodingUnknown
from topwork.kinds import NameEncoding

# Words that are in no table of the code, as folders of one archive.
ARCHIVES = [
    ("gbk", ["挖掘机", "推土机", "压路机", "起重机"]),
    ("gbk", ["01_消防车", "02_救护车", "03_警车"]),
    ("cp932", ["タンポポ", "チューリップ"]),
    ("cp932", ["能面", "ソファ", "十字架"]),  # Each has a byte 0x5C or is next to one.
    ("cp950", ["挖土機", "壓路機", "消防車", "救護車"]),
    ("cp949", ["토끼", "코끼리", "원숭이", "고양이"]),
    ("cp1251", ["экскаватор", "бульдозер"]),
    ("cp866", ["экскаватор", "бульдозер"]),
    ("cp1253", ["εκσκαφέας", "γερανός"]),
    ("cp850", ["Schlüssel", "Löffel", "Töpfe"]),
    ("cp437", ["Schlüssel", "Löffel", "Töpfe"]),
    ("cp1252", ["Schlüssel", "Löffel", "Töpfe"]),
    ("cp852", ["łyżka", "nóż", "widełki", "świeca"]),
    ("cp874", ["ช้าง", "ลิง", "เสือ", "กระต่าย"]),
]


def stored(names: list[str], encoding: str) -> list[bytes]:
    raw = [f"data/{name}/{number}.jpg".encode(encoding) for name in names for number in range(3)]
    return [name for name in raw if not name.isascii()]


@pytest.mark.parametrize(("encoding", "names"), ARCHIVES)
def test_legacy_names_are_read_as_they_were_written(encoding: str, names: list[str]) -> None:
    raw = stored(names, encoding)
    found, guess = decide(raw)
    assert [it.decode(found) for it in raw] == [it.decode(encoding) for it in raw]
    assert guess is not None
    assert set(guess.samples) <= set(names)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "names", [["挖掘机", "cat"], ["Löffel", "Töpfe"], ["экскаватор", "x"], ["🐈", "🐕"]]
)
def test_utf8_without_a_flag_is_utf8(names: list[str], form: Literal["NFC", "NFD"]) -> None:
    written = [unicodedata.normalize(form, name) for name in names]
    assert decide(stored(written, "utf-8")) == (NameEncoding.UTF_8, None)


def test_lone_letters_as_macos_writes_them_are_utf8() -> None:
    assert decide(stored(["A\u0308", "O\u0308"], "utf-8")) == (NameEncoding.UTF_8, None)


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("gbk", ["猫", "毛"]),  # Valid UTF-8, too: è and ë.
        ("cp850", ["Äpfel", "Birnen"]),  # Žpfel in cp1252.
        ("cp1252", ["à", "ô"]),
        ("cp437", ["═══", "╣╖"]),
    ],
)
def test_what_can_be_read_in_two_ways_is_asked(encoding: str, names: list[str]) -> None:
    with pytest.raises(NameEncodingUnknown) as asked:
        decide(stored(names, encoding))
    assert asked.value.param == "name_encoding"
    assert "`name_encoding`" in str(asked.value.hint)
    assert not any(0x2500 <= ord(char) < 0x25A0 for char in asked.value.message)


def test_the_question_shows_each_reading_once_with_its_encoding() -> None:
    with pytest.raises(NameEncodingUnknown, match=r"gb18030 \(猫, 毛\)") as asked:
        decide(stored(["猫", "毛"], "gbk"))
    readings = asked.value.message.partition("could be ")[2].split("; ")
    assert len(readings) == len(set(readings)) > 1


def test_what_only_files_are_called_is_no_question() -> None:
    names: list[str | bytes] = ["cat/Äpfel 1.jpg".encode("cp850"), b"dog/\x81\xad\xff.jpg"]
    planned = plan([Member(name, 9) for name in [*names, "dog/2.jpg"]], Limits())
    assert [path.partition("/")[0] for path in planned.files.values()] == ["cat", "dog", "dog"]
    assert not planned.refusals


def test_a_backslash_inside_a_character_splits_no_path() -> None:
    names = [f"{name}/{number}.jpg" for name in ("表面", "能力", "ソース") for number in (1, 2)]
    assert all(0x5C in name.encode("cp932") for name in names)
    raw = [Member(name.encode("cp932"), 9) for name in names]
    assert list(plan(raw, Limits()).files.values()) == names


def test_backslashes_between_names_in_a_code_page_split_them() -> None:
    names = [f"{name}\\{number}.jpg" for name in ("表面", "能力", "ソース") for number in (1, 2)]
    raw = [Member("表面\\".encode("cp932")), *(Member(it.encode("cp932"), 9) for it in names)]
    planned = plan(raw, Limits())
    assert list(planned.files.values()) == [name.replace("\\", "/") for name in names]
    assert planned.folders == ["表面"]


def test_a_file_that_ends_in_half_a_character_is_no_folder() -> None:
    raw = [Member("写真/表".encode("cp932"), 9, content="image")]
    assert list(plan(raw, Limits(), NameEncoding.CP932).files.values()) == ["写真/表"]


def test_what_is_asked_for_is_taken_at_its_word_and_misfits_are_refused_alone() -> None:
    raw = [Member("Äpfel/1.jpg".encode("cp850"), 9), Member("Äpfel/2.jpg".encode(), 9)]
    assert next(iter(plan(raw, Limits(), NameEncoding.CP850).files.values())) == "Äpfel/1.jpg"
    planned = plan(raw, Limits(), NameEncoding.UTF_8)
    assert list(planned.files.values()) == ["Äpfel/2.jpg"]
    assert [refusal.code for refusal in planned.refusals] == ["name_not_utf8"]


def test_declared_names_stay_as_they_are_whatever_the_others_mean() -> None:
    words = ("экскаватор", "бульдозер")
    raw = [f"{word}/{number}.jpg".encode("cp866") for word in words for number in range(3)]
    members = [
        Member("кран/1.jpg", 9),
        *(Member(it, 9) for it in raw),
        Member("кот/1.jpg", 9),
    ]
    planned = plan(members, Limits())
    assert list(planned.files) == list(range(8))
    assert {path.partition("/")[0] for path in planned.files.values()} == {"кран", "кот", *words}


def test_many_and_long_names_are_decided_in_bounded_time() -> None:
    raw = [
        (f"{number:06d}" + "猫狗鸟马" * 60).encode("gbk") + b"/1.jpg" for number in range(20_000)
    ]
    started = time.process_time()
    assert decide(raw)[0] == NameEncoding.GB18030
    assert time.process_time() - started < 10


def test_an_ingestion_tells_how_it_read_names(run: Ingest) -> None:
    files = folder("挖掘机", "推土机", "压路机")
    done = run(legacy_zip(files, "gbk"))
    assert done.dataset["classes"] == ["压路机", "挖掘机", "推土机"]
    (found,) = done.dataset["findings"]
    assert (found["code"], found["examples"]) == (
        "name_encoding_guessed",
        ["挖掘机", "推土机", "压路机"],
    )
    assert "gb18030" in found["message"]
    assert {"挖掘机": "name_encoding_guessed"}.items() <= done.codes.items()


def test_an_ingestion_asks_and_takes_the_answer(run: Ingest) -> None:
    files = folder("猫", "毛")
    asked = run(legacy_zip(files, "gbk"))
    assert asked.error is not None
    assert asked.error["code"] == "name_encoding_unknown"
    done = run(legacy_zip(files, "gbk"), name="again", answers={"name_encoding": "gb18030"})
    assert done.dataset["classes"] == ["毛", "猫"]
    assert done.dataset["findings"] == []


def test_names_that_the_archive_holds_twice_are_taken_from_there(run: Ingest) -> None:
    entries = []
    for number, (path, data) in enumerate(folder("猫", "毛", count=4).items()):
        raw = path.encode("gbk")
        extra = unicode_path(raw, path) if number else b""  # One tool in a chain left it out.
        entries.append(Entry(raw, data, flags=0, extra=extra))
    done = run(raw_zip(entries[1:]))
    assert done.dataset["classes"] == ["毛", "猫"]
    assert done.dataset["findings"] == []


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, "binary pax"])
def test_tars_are_read_alike(run: Ingest, tar_format: int | str) -> None:
    out = io.BytesIO()
    binary = tar_format == "binary pax"
    form = tarfile.PAX_FORMAT if isinstance(tar_format, str) else tar_format
    encoding, errors = ("utf-8", "surrogateescape") if binary else ("gbk", "strict")
    with tarfile.TarFile(
        fileobj=out, mode="w", format=form, encoding=encoding, errors=errors
    ) as archive:
        for path, data in folder("挖掘机", "推土机" * (20 if form else 1), "压路机").items():
            stored = path.encode("gbk").decode("utf-8", "surrogateescape") if binary else path
            info = tarfile.TarInfo(stored)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    done = run(out.getvalue())
    assert {"挖掘机", "压路机"} < set(done.dataset["classes"])


def test_one_picture_of_each_is_enough(run: Ingest, tmp_path: Path) -> None:
    files = {"Töpfe/1.png": picture(1), "Löffel/1.png": picture(2)}
    archive = tmp_path / "old.zip"
    archive.write_bytes(legacy_zip(files, "cp850"))
    assert run(archive).dataset["classes"] == ["Löffel", "Töpfe"]
