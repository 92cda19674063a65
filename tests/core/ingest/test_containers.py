"""Whatever is uploaded, reading ends soon and with an answer."""

import io
import random
import tarfile
import time
from pathlib import Path

import pytest

from core.ingest.archive import Limits, plan
from core.ingest.containers import open_container
from core.ingest.layout import read_layout
from tests.archives import PACKERS, Entry, folder, honest, picture, raw_zip, special, tar_of, zip_of
from topwork.errors import TopworkError

FILES = folder("cat", "dog")
ZIPS = [
    zip_of(FILES),
    raw_zip(honest(FILES), zip64=True),
    raw_zip([Entry(b"a/x.png", picture(9), descriptor=True), *honest(FILES)]),
]
LONG: dict[str, bytes | tarfile.TarInfo] = {
    "x" * 200 + "/é.png": picture(1),
    "link": special(tarfile.SYMTYPE, "y" * 300),
}
TARS = [tar_of(FILES | LONG, tarfile.GNU_FORMAT), tar_of(FILES | LONG, tarfile.PAX_FORMAT)]
VALUES = [
    b"\xff" * 8,
    b"\x80" + bytes(7),
    bytes(8),
    b"77777777",
    b"\xff\xff\xff\x7f",
    b"99 size=-5\n",
]


def damage(data: bytes, dice: random.Random) -> bytes:
    """Change, drop, repeat or overwrite a few pieces."""
    out = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 5, 20])):
        at, length = dice.randrange(len(out)), dice.randrange(1, 600)
        kind = dice.randrange(4)
        if kind == 0:
            out[at] = dice.randrange(256)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = out[dice.randrange(len(out)) :][:length]
        else:
            value = dice.choice(VALUES)
            out[at : at + len(value)] = value
        out = out or bytearray(b"x")
    return bytes(out)


def lie(data: bytes, dice: random.Random) -> bytes:
    """Change fields of tar headers and make their checksums right."""
    out = bytearray(data)
    for _ in range(dice.choice([1, 2, 3])):
        at = 512 * dice.randrange(len(out) // 512)
        block = out[at : at + 512]
        start, length = dice.choice(
            [(0, 100), (124, 12), (156, 1), (157, 100), (345, 155), (482, 1)]
        )
        value = dice.choice([*VALUES, *(bytes([kind]) for kind in b"012345678LKxgXSVM")])
        block[start : start + length] = value[:length].ljust(length, b"\0")
        block[148:156] = b" " * 8
        block[148:155] = b"%06o\0" % sum(block)
        out[at : at + 512] = block
    return bytes(out)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_archives_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - only to repeat a case.
    answers = set()
    with (tmp_path / "upload").open("w+b") as file:
        for _ in range(250):
            tar = lie(dice.choice(TARS), dice)
            packed = dice.choice([*PACKERS.values()])
            data = dice.choice(
                [damage(dice.choice(ZIPS), dice), damage(tar, dice), tar, packed(tar)]
            )
            if dice.random() < 0.2:
                data = damage(packed(tar), dice)
            file.seek(0)
            file.truncate()
            file.write(data)
            file.flush()
            started = time.process_time()
            answers.add(answer(file))
            assert time.process_time() - started < 1
    assert {"ok", "archive_unreadable"} <= answers


def answer(file: io.BufferedRandom) -> str:
    try:
        container = open_container(file, Limits())
        planned = plan(container.members(), Limits())
        for index, content in container.contents(planned.files):
            assert index in planned.files
            assert isinstance(content, bytes | str)
        read_layout(planned.files.values(), planned.folders)
    except TopworkError as error:
        return error.code
    return "damaged" if container.damage else "ok"
