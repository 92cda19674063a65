"""Prometheus metrics of all api processes on one machine.

Each process counts in files of its own (the multiprocess mode of prometheus_client), and each can
tell the sum. The files belong to a number, not to a process: a starting process takes the first
number that nobody holds and counts on in its files, so sums never fall and files do not pile up.
"""

import os
from contextlib import suppress
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from core.system.locks import take

SECONDS = (0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # The library looks for its files where this points.
FILE_BYTES = 1024**2  # Written in full, as a full disk kills who writes to a hole in a mapped file.
MOST_PROCESSES = 1000
log = structlog.get_logger()


class Counters:
    """Counters of one app, in a registry of their own so that tests can have several."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._requests = Counter(
            "topwork_http_requests", "Answered requests.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "topwork_http_seconds",
            "Seconds until the answer was sent.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._problems = Counter(
            "topwork_http_problems",
            "Requests answered with a problem, by its code.",
            ["code"],
            registry=self._registry,
        )
        self._replays = Counter(
            "topwork_http_replays",
            "Requests whose Idempotency-Key was known, answered as the first time.",
            registry=self._registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def problem(self, code: str) -> None:
        """Count one answer that was an error."""
        self._problems.labels(code).inc()

    def replay(self) -> None:
        """Count one answer that was given before."""
        self._replays.inc()

    def text(self) -> bytes:
        """Return the exposition format: the sums of all processes that share their counters."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call] # As the library has it.
        return generate_latest(everyone)


def share(folder: Path) -> None:
    """Count where the other api processes see it; to be called before there are `Counters`.

    Where that cannot be, on a full disk for example, this process counts for itself.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = _take_number(folder)
        for kind in ("counter", "histogram"):
            _prepare(folder / f"{kind}_{number}.db")
    except OSError as error:
        log.warning("counters.unshared", error=str(error))
        return
    os.environ[FOLDER] = str(folder)
    # How the library documents identifiers other than the process's own.
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call] # As above.


def _take_number(folder: Path) -> int:
    """Return the first number that no process holds; the kernel frees it at this one's death."""
    for number in range(MOST_PROCESSES):
        with suppress(BlockingIOError):
            take(folder / f"{number}.lock", create=True)
            return number
    message = f"{MOST_PROCESSES} processes count in {folder}"
    raise OSError(message)


def _prepare(path: Path) -> None:
    """Make a file to count in, unless there is a sound one."""
    try:
        list(MmapedDict.read_all_values_from_file(path))  # type: ignore[no-untyped-call] # As above.
    except FileNotFoundError:
        pass
    except Exception as error:  # noqa: BLE001 - a power cut may have left anything in it.
        log.warning("counters.restarted", file=path.name, error=str(error))
    else:
        return
    part = path.with_suffix(".part")
    part.write_bytes(bytes(FILE_BYTES))
    part.replace(path)
