"""Decoder processes: verdicts in order, and one lost decoder costs at most one image."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pillow_heif
import pytest

from core.ingest import decoders
from core.ingest.decoders import FAILED, Decoders
from tests.archives import picture
from tests.waiting import wait_for


@pytest.fixture
def pool() -> Iterator[Decoders]:
    with Decoders(1, max_pixels=10_000) as opened:
        yield opened


def children() -> list[int]:
    """Decoders of this process that still exist."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = (path.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == os.getpid() and b"decoder" in line:
            found.append(int(path.parent.name))
    return found


def test_verdicts_come_in_order(pool: Decoders) -> None:
    kinds = ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"]
    batch = [picture(number, kind, size=number + 8) for number, kind in enumerate(kinds)]
    verdicts = pool.submit([*batch, batch[0][:40], b"text", picture(1, "PNG", 101)]).result()
    assert [verdict.width for verdict in verdicts[:6]] == [8, 9, 10, 11, 12, 13]
    assert [verdict.suffix for verdict in verdicts[:6]] == [
        "png",
        "jpg",
        "tif",
        "webp",
        "gif",
        "bmp",
    ]
    assert [verdict.code for verdict in verdicts] == [
        *[None] * 6,
        "image_undecodable",
        "image_undecodable",
        "image_too_large",
    ]


def test_avif_and_heic_are_decoded_here_and_not_in_yet_another_process(pool: Decoders) -> None:
    pillow_heif.register_heif_opener()
    pictures = [picture(1, "AVIF", size=16), picture(2, "HEIF", size=20)]
    verdicts = pool.submit([*pictures, pictures[0][:90], picture(3, "AVIF", size=101)]).result()
    told = [(verdict.width, verdict.suffix, verdict.code) for verdict in verdicts]
    assert told[:2] == [(16, "avif", None), (20, "heic", None)]
    assert [code for *_, code in told[2:]] == ["image_undecodable", "image_too_large"]
    [pid] = children()
    assert not Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_a_lost_decoder_costs_nothing(pool: Decoders) -> None:
    assert pool.submit([picture(1)]).result()[0].code is None
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    verdicts = pool.submit([picture(1), picture(2)]).result()
    assert [verdict.code for verdict in verdicts] == [None, None]


DEADLY = """
import mmap, os, sys
from core.ingest import decoders
real = decoders.examine
def examine(data, limits):
    if data == b"crash":
        os.abort()
    if data == b"spin":
        while True: pass
    if data == b"eat":
        mmap.mmap(-1, 8 << 30)
    return real(data, limits)
decoders.examine = examine
decoders.CPU_SECONDS = 0.2
decoders.main()
"""


@pytest.mark.parametrize("bad", [b"crash", b"spin"])
def test_only_the_image_that_kills_its_decoder_is_lost(
    pool: Decoders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: bytes
) -> None:
    _use(DEADLY, monkeypatch, tmp_path)
    batches = [[picture(1), bad, picture(2)], [picture(3)]]
    verdicts = [future.result() for future in [pool.submit(batch) for batch in batches]]
    assert [verdict.code for verdict in verdicts[0]] == [None, "decoder_failed", None]
    assert verdicts[0][1] == FAILED
    assert [verdict.code for verdict in verdicts[1]] == [None]


def test_a_decoder_that_never_starts_is_no_images_fault(
    pool: Decoders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use("raise SystemExit(1)", monkeypatch, tmp_path)
    with pytest.raises(RuntimeError, match="does not start"):
        pool.submit([picture(1)]).result()


def test_memory_is_bounded(pool: Decoders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _use(DEADLY, monkeypatch, tmp_path)
    assert pool.submit([b"eat"]).result() == [FAILED]
    assert pool.submit([picture(1)]).result()[0].code is None


def _use(script: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Start this in place of the ordinary decoder."""
    path = folder / "decoder.py"
    path.write_text(script)
    monkeypatch.setattr(decoders, "MODULE", (str(path),))


def test_closing_does_not_wait_for_a_busy_decoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use(DEADLY.replace("0.2", "600"), monkeypatch, tmp_path)
    with Decoders(1, max_pixels=10_000) as pool:
        future = pool.submit([b"spin"])
        queued = pool.submit([picture(1)])
        wait_for(children)
    assert future.result() == [FAILED]
    assert queued.cancelled()
    assert children() == []
