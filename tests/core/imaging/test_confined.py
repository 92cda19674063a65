"""Decoders of AVIF and HEIC run apart: what becomes of one costs no more than its image."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.imaging import confined
from core.imaging.decode import decode, probe
from tests.pictures import encode, photo
from topwork.errors import ImageTooLarge, ImageUndecodable

AVIF = encode(photo(), "AVIF", speed=10, max_threads=1)

# A child that does to some sizes of files what a decoder taken over by its file could do.
TRICKS = """
import json, mmap, os, sys
from core.imaging import heif
real = heif.READERS["AVIF"]
def read(content):
    trick = content[200:].lstrip(b"?")
    if trick == b"crash": os.abort()
    if trick == b"spin":
        while True: pass
    if trick == b"eat": bytearray(8 << 30)
    if trick == b"more":
        print(json.dumps([[8, 8], "RGB", False, 1, 1 << 40]), flush=True)
        os._exit(0)
    if trick == b"prattle":
        while True: os.write(1, b"x" * 4096)
    return real(content)
heif.READERS["AVIF"] = read
heif.CPU_SECONDS = heif.HEADER_CPU_SECONDS = 0.5
heif.main()
"""


@pytest.fixture
def tricked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "child.py").write_text(TRICKS)
    monkeypatch.setattr(confined, "MODULE", (str(tmp_path / "child.py"),))
    confined._end_all()
    yield
    confined._end_all()


@pytest.mark.usefixtures("tricked")
@pytest.mark.parametrize("trick", [b"crash", b"spin", b"more", b"prattle"])
def test_only_the_image_that_ends_its_decoder_is_lost(trick: bytes) -> None:
    assert probe(AVIF).width == 64
    for read in (probe, decode):
        with pytest.raises(ImageUndecodable, match="crashed, or ran out of its time or memory"):
            read(AVIF[:200] + b"?" + trick)
    assert decode(AVIF).size == (64, 48)


@pytest.mark.usefixtures("tricked")
def test_an_image_that_needs_too_much_memory_is_too_large() -> None:
    with pytest.raises(ImageTooLarge, match="memory"):
        decode(AVIF[:200] + b"?eat")
    assert decode(AVIF).size == (64, 48)


def test_a_decoder_that_was_killed_while_idle_costs_nothing() -> None:
    probe(AVIF)
    for child in confined._idle:
        os.kill(child._process.pid, signal.SIGKILL)
    assert decode(AVIF).size == (64, 48)


def test_threads_are_served_at_once_and_few_decoders_are_kept() -> None:
    decoded: list[bytes] = []

    def read() -> None:
        decoded.extend(decode(AVIF).tobytes() for _ in range(3))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 18
    assert len(set(decoded)) == 1
    assert len(confined._idle) <= confined.KEPT


ALONE = """
import sys
from core.imaging.decode import decode
from core.imaging.process_limits import limit_process
if sys.argv[1] == "limited":
    limit_process()
image = decode(open(sys.argv[2], "rb").read())
sys.stdout.buffer.write(b"here " if "PIL._avif" in sys.modules else b"apart ")
sys.stdout.buffer.write(image.tobytes())
"""


def test_pixels_are_the_same_apart_and_in_a_limited_process(tmp_path: Path) -> None:
    """Ingestion sees what prediction sees; what is not limited loads no decoder."""
    (tmp_path / "a.avif").write_bytes(AVIF)
    told = {}
    for kind in ("limited", "free"):
        words = [sys.executable, "-c", ALONE, kind, str(tmp_path / "a.avif")]
        done = subprocess.run(words, capture_output=True, check=True)
        assert not done.stderr
        place, _, told[kind] = done.stdout.partition(b" ")
        assert place == (b"here" if kind == "limited" else b"apart")
    assert told["limited"] == told["free"] == decode(AVIF).tobytes()
