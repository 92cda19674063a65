"""Compare ingestion with decoding alone: python bench/ingest.py [ARCHIVE.zip].

Decoding alone is `core.ingest.decoders.examine` in one process on the archive's files in memory,
times the cores. Peak memory is the resident set of the whole process tree, sampled every 50 ms,
shared pages counted once for each process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from core.imaging.decode import ImageLimits
from core.ingest.decoders import examine
from core.system.machine import cores

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hymenoptera.zip"
SAMPLE = 3000
PAGE = os.sysconf("SC_PAGE_SIZE")


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


def ingest_rate(archive: Path) -> tuple[float, float, int]:
    """Return images a second, seconds and peak resident bytes of one whole ingestion."""
    with tempfile.TemporaryDirectory() as folder:
        request = {"archive": str(archive.resolve()), "split": {}, "limits": {}}
        (Path(folder) / "request.json").write_text(json.dumps(request))
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "core.ingest", folder])
        peak = 0
        while child.poll() is None:
            peak = max(peak, sum(resident(pid) for pid in tree(child.pid)))
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        assert child.returncode == 0
        images = json.loads((Path(folder) / "result" / "dataset.json").read_text())["images"]
    return images / seconds, seconds, peak


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--repeats", type=int, default=3)
    archive, repeats = (asked := parser.parse_args()).archive, asked.repeats
    if not archive.is_file():
        sys.exit(f"{archive} is not there: name an archive of images")
    alone = [decode_rate(archive) for _ in range(repeats)]
    whole = [ingest_rate(archive) for _ in range(repeats)]
    limit = statistics.median(alone) * cores()
    rate = statistics.median(rate for rate, _, _ in whole)
    print(f"{archive.name}, {cores()} cores, n = {repeats}, median (least to most)")
    print(
        f"decode alone  {limit:9.0f} img/s on all cores ({min(alone):.0f} to {max(alone):.0f} each)"
    )
    times = " to ".join(f"{seconds:.1f}" for _, seconds, _ in sorted(whole)[:: max(1, repeats - 1)])
    print(f"ingest        {rate:9.0f} img/s, {rate / limit:.2f} of that; {times} s")
    print(f"peak memory   {max(peak for _, _, peak in whole) / 2**20:9.0f} MiB, all processes")


if __name__ == "__main__":
    main()
