"""One process of the service: how it is started, tethered, heard, and known to be ready."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from app.supervisor.console import Console
from core.system import readiness_signal
from core.system.child import tethered
from core.system.tether import NO_PIPE

LONGEST_PAUSE = 30.0
STABLE_SECONDS = 30.0
LAST_LINES = 10
LONGEST_LINE = 64 * 1024


def _no_repair() -> str | None:
    return None


@dataclass(frozen=True)
class Service:
    """One process to keep running.

    Attributes:
        ready: Tells whether it can do its work; without it, it says so itself (`readiness_signal`).
        fds: Descriptors that it inherits.
        repair: Asked what was done about it when it died before it was ready.
        grace: Seconds between SIGTERM and SIGKILL.
        quiet: Lines that hold one of these are not worth showing.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    ready: Callable[[], bool] | None = None
    fds: tuple[int, ...] = ()
    repair: Callable[[], str | None] = _no_repair
    grace: float = 3.0
    quiet: tuple[str, ...] = ()


class Process:
    """The current process of a service and what is known about it.

    Attributes:
        is_ready: Whether the process that runs can do its work.
        was_ready: Whether any process of this service could.
        starts: How many there were.
        start_at: Monotonic time of the next start while none runs.
        last: What the newest one wrote last.
    """

    def __init__(self, service: Service, console: Console, *, use_pipe: bool) -> None:
        self.service = service
        self.is_ready = self.was_ready = False
        self.starts = 0
        self.start_at: float | None = 0.0
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._console = console
        self._use_pipe = use_pipe
        self._failures = 0
        self._popen: subprocess.Popen[bytes] | None = None
        self._pipe = self._word = NO_PIPE
        self._started_at = 0.0
        self._pump: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a process exists that has not been waited for."""
        return self._popen is not None

    def start(self) -> None:
        """Spawn the command in a session of its own, tethered to this process."""
        self._word, word = os.pipe()
        os.set_blocking(self._word, False)
        theirs, tether = [word], NO_PIPE
        if self._use_pipe:
            tether, self._pipe = os.pipe()
            theirs.append(tether)
        env = {**os.environ, **self.service.env, readiness_signal.VARIABLE: str(word)}
        child = tethered(self.service.command, env, tether)
        self._popen = subprocess.Popen(
            child.command,
            env=child.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(*self.service.fds, *theirs),
            start_new_session=True,  # Else Ctrl-C reaches every child at once, and Celery twice.
        )
        for number in theirs:
            os.close(number)
        self._started_at, self.start_at, self.is_ready = time.monotonic(), None, False
        self.starts += 1
        self.last.clear()
        self._feed(self._popen)

    def _feed(self, popen: subprocess.Popen[bytes]) -> None:
        if popen.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError), popen.stdin:
            popen.stdin.write(self.service.stdin)
        self._pump = threading.Thread(target=self._copy_lines, args=(popen,), daemon=True)
        self._pump.start()

    def _copy_lines(self, popen: subprocess.Popen[bytes]) -> None:
        for line in _lines(popen):
            if line and not any(part in line for part in self.service.quiet):
                self.last.append(line)
                self._console.line(self.service.name, line)

    def poll(self) -> int | None:
        """Return the exit code once after the process ended, else None."""
        if self._popen is None or self._popen.poll() is None:
            return None
        code = self._popen.returncode
        if self.service.ready is None and self._says_so():  # And ended before it was asked.
            self.was_ready = True
        if self._pump:
            self._pump.join(timeout=1)
        for number in (self._pipe, self._word):
            if number != NO_PIPE:
                os.close(number)
        self._popen, self._pipe, self._word = None, NO_PIPE, NO_PIPE
        return int(code)

    def probe(self) -> bool:
        """Return True when the process has just become ready."""
        if self.is_ready or not self.running or not self._says_so():
            return False
        self.is_ready = self.was_ready = True
        return True

    def _says_so(self) -> bool:
        if self.service.ready is not None:
            return self.service.ready()
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._word, 1))
        return False

    def plan_restart(self) -> float:
        """Set and return the pause before the next start: 1, 2, 4 ... 30 seconds."""
        if time.monotonic() - self._started_at >= STABLE_SECONDS:
            self._failures = 0
        pause = min(LONGEST_PAUSE, 2.0**self._failures)
        self._failures += 1
        self.is_ready = False
        self.start_at = time.monotonic() + pause
        return pause

    def send(self, number: signal.Signals) -> None:
        """Signal the process; its whole group when the signal is SIGKILL."""
        if self._popen is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._popen.pid, number)
            else:
                self._popen.send_signal(number)


def _lines(popen: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield what a process writes, by lines; one that never ends comes in parts."""
    if popen.stdout is None:
        return
    with popen.stdout as output:
        while line := output.readline(LONGEST_LINE):
            yield line.decode(errors="replace").rstrip()
