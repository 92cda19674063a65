"""Compare ingestion with decoding alone, and without hashes: python bench/ingest.py [ARCHIVE.zip].

Decoding alone is `core.ingest.decoders.examine` in one process on the archive's files in memory,
times the cores. Peak memory is the resident set of the whole process tree, sampled every 50 ms,
shared pages counted once for each process. Ingestions with and without the perceptual hash take
turns; the seconds of CPU are those of all processes, which another load changes less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from core.imaging.decode import ImageLimits
from core.ingest.decoders import examine
from core.system.machine import cores

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hymenoptera.zip"
SAMPLE = 3000
PAGE = os.sysconf("SC_PAGE_SIZE")
WITHOUT_HASHES = """
import sys
from core.ingest import __main__, curate, decoders
from core.system.run_dir import supervise
decoders.hashed = list
NONE = "from core.imaging import inspection; inspection.miniature = lambda image: b'';"
decoders.MODULE = ("-c", NONE + "from core.ingest.decoders import main; main()")
curate.near_duplicates = lambda lines: []
sys.exit(supervise(__main__.ingest, sys.argv[1:]))
"""


def tree(pid: int) -> list[int]:
    """Return a process and everything below it."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return [pid]
    return [pid, *(found for text in lists for child in text.split() for found in tree(int(child)))]


def resident(pid: int) -> int:
    """Return a process's resident bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def decode_rate(archive: Path) -> float:
    """Return images a second that one core decodes."""
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")][:SAMPLE]
        images = [file.read(name) for name in names]
    limits = ImageLimits()
    started = time.perf_counter()
    good = sum(examine(data, limits).code is None for data in images)
    assert good == len(images)
    return len(images) / (time.perf_counter() - started)


class Ingestion(NamedTuple):
    """What one whole ingestion took: images a second, seconds, peak resident bytes."""

    rate: float
    seconds: float
    cpu_seconds: float
    peak: int


def ingest(archive: Path, *words: str) -> Ingestion:
    """Ingest an archive by `python WORDS FOLDER`."""
    with tempfile.TemporaryDirectory() as folder:
        request = {"archive": str(archive.resolve()), "split": {}, "limits": {}}
        (Path(folder) / "request.json").write_text(json.dumps(request))
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # As a worker starts it.
        child = subprocess.Popen([sys.executable, *words, folder], env=environment)
        peak = 0
        while child.poll() is None:
            peak = max(peak, sum(resident(pid) for pid in tree(child.pid)))
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert child.returncode == 0
        images = json.loads((Path(folder) / "result" / "dataset.json").read_text())["images"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ingestion(images / seconds, seconds, cpu, peak)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--repeats", type=int, default=3)
    archive, repeats = (asked := parser.parse_args()).archive, asked.repeats
    if not archive.is_file():
        sys.exit(f"{archive} is not there: name an archive of images")
    alone = [decode_rate(archive) for _ in range(repeats)]
    whole, plain = [], []
    for _ in range(repeats):
        plain.append(ingest(archive, "-c", WITHOUT_HASHES))
        whole.append(ingest(archive, "-m", "core.ingest"))
    limit = statistics.median(alone) * cores()
    rate = statistics.median(it.rate for it in whole)
    without = statistics.median(it.rate for it in plain)
    work, less = (statistics.median(it.cpu_seconds for it in runs) for runs in (whole, plain))
    print(f"{archive.name}, {cores()} cores, n = {repeats}, median (least to most)")
    print(
        f"decode alone  {limit:9.0f} img/s on all cores ({min(alone):.0f} to {max(alone):.0f} each)"
    )
    times = sorted(it.seconds for it in whole)
    print(f"ingest        {rate:9.0f} img/s, {rate / limit:.2f} of that")
    print(f"              {times[0]:9.1f} to {times[-1]:.1f} s")
    print(f"without hash  {without:9.0f} img/s; with it {rate / without:.2f} of that")
    print(f"CPU           {work:9.1f} s with, {less:.1f} s without: {less / work:.2f}")
    print(f"peak memory   {max(it.peak for it in whole) / 2**20:9.0f} MiB, all processes")


if __name__ == "__main__":
    main()
