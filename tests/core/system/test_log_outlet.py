"""Nobody waits for a log, what is dropped is told, and what is written comes in order."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.system.log_outlet import Lines, Outlet
from tests.stuck import KINDS, stuck

LINE = b"x" * 99 + b"\n"


def notice(lines: int) -> str:
    return f"{lines} dropped"


@pytest.mark.parametrize("kind", KINDS)
def test_who_writes_never_waits_and_the_newest_lines_are_kept(kind: str) -> None:
    with stuck(kind) as place:
        outlet = Outlet(place.fd, notice, most=10_000)
        began = time.monotonic()
        for number in range(1000):
            outlet.put(b"%099d\n" % number)
        outlet.flush(0.05)
        assert time.monotonic() - began < 2
        place.awake()
        told = place.read().replace(b"\r", b"").lstrip(b"x").decode()
        lines = told.splitlines()
        outlet.flush(10)
    missing = [int(found) for found in re.findall(r"(\d+) dropped", told)]
    numbers = [int(line) for line in lines if line.isdecimal()]
    assert numbers[-1] == 999
    assert numbers == sorted(set(numbers))
    assert sum(missing) == 1000 - len(numbers) > 500


def test_all_comes_in_order_where_somebody_reads(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        outlet = Outlet(file.fileno(), notice, most=10**9)
        for number in range(20_000):
            outlet.put(b"%d\n" % number)
        outlet.flush(30)
    assert [int(n) for n in (tmp_path / "log").read_text().split()] == list(range(20_000))


def test_a_text_that_is_larger_than_the_queue_is_cut(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        outlet = Outlet(file.fileno(), notice, most=1000)
        outlet.put(b"y" * 10**7)
        outlet.flush(30)
    assert (tmp_path / "log").stat().st_size == 1000


@pytest.mark.filterwarnings("error")
def test_a_reader_that_has_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet(writer, notice)
    for _ in range(3):
        outlet.put(LINE)
        outlet.flush(10)
    os.close(writer)


def test_a_descriptor_that_does_not_block_is_waited_for_by_the_thread() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outlet = Outlet(writer, notice, most=10**7)
    for _ in range(5000):
        outlet.put(LINE)
    got = b""
    while len(got) < 5000 * len(LINE):
        got += os.read(reader, 65536)
    assert got == LINE * 5000
    outlet.flush(10)
    os.close(reader)
    os.close(writer)


def test_a_stream_passes_whole_lines_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        outlet = Outlet(file.fileno(), notice)
        stream = Lines(outlet, file.fileno())
        stream.write("one\ntw")
        outlet.flush(10)
        assert path.read_text() == "one\n"
        stream.write("o\nthree\udcff")
        stream.wait(10)
    assert path.read_text() == "one\ntwo\nthree\\udcff"


CHATTY = """
import logging, signal, sys, threading, time, warnings
from pathlib import Path
from core.system.log import configure
configure()
log = logging.getLogger("chatty")
signal.signal(signal.SIGALRM, lambda *_: log.warning("in a handler"))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
threading.excepthook(threading.ExceptHookArgs([ValueError, ValueError("x" * 10_000), None, None]))
for number in range(int(sys.argv[2])):
    log.info("%d %s", number, "x" * 500)
    print("out", "y" * 100)
    print("error", "y" * 100, file=sys.stderr)
    warnings.warn(f"warned {number}", stacklevel=1)
signal.setitimer(signal.ITIMER_REAL, 0)
Path(sys.argv[1]).write_text("done")
sys.exit("the last words")
"""


def run(fd: int, told: Path, count: int) -> float:
    """Run a process that writes in every way there is; return the seconds until it ended."""
    command = [sys.executable, "-W", "always", "-c", CHATTY, str(told), str(count)]
    process = subprocess.Popen(command, stdout=fd, stderr=fd)
    began = time.monotonic()
    try:
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
    return time.monotonic() - began


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_writes_in_every_way_goes_on_and_ends(kind: str, tmp_path: Path) -> None:
    with stuck(kind) as place:
        run(place.fd, tmp_path / "told", 5000)  # Some five times of what the queue takes.
        assert place.takes_nothing()
    assert (tmp_path / "told").read_text() == "done"


def test_what_is_queued_at_the_end_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        run(file.fileno(), tmp_path / "told", 200)
    text = path.read_text()
    for word in ("out", "error", "warned 199", "ValueError", '"event": "199 ', "the last words"):
        assert word in text, word
