"""How far the memory of a service's processes rose."""

import threading
from pathlib import Path

from tests.app.processes import descendants
from tests.e2e.conftest import Service

RISE = 300 * 1024  # KiB that no case may cost.


class Peak:
    """The resident memory of a service's processes: the most of each since it was made.

    Children that are born meanwhile, those of ingestions, count from nothing: they are looked at
    twenty times a second, and the kernel keeps the high-water mark between two looks.
    """

    def __init__(self, service: Service) -> None:
        self._root = service.process.pid
        self.before = {pid: kibibytes(pid, "VmRSS") for pid in self._pids()}
        self.most = dict(self.before)
        for pid in self.before:  # Restarts the kernel's high-water mark.
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _pids(self) -> list[int]:
        return [self._root, *descendants(self._root)]

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._look()

    def _look(self) -> None:
        for pid in self._pids():
            self.most[pid] = max(self.most.get(pid, 0), kibibytes(pid, "VmHWM"))

    def rise(self) -> int:
        """Return by how many KiB the process that grew most grew at its worst moment."""
        self._done.set()
        self._thread.join()
        self._look()
        return max(most - self.before.get(pid, 0) for pid, most in self.most.items())


def kibibytes(pid: int, field: str) -> int:
    """Return a figure of a process, 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)
