"""Keep a table of processes running until told to stop: start, probe, restart, stop in order.

Everything but the copying of output happens in the main thread: Linux ties "die with the parent"
to the thread that forked, and signals wake the loop through a pipe instead of a lock.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from app.supervisor.console import Console
from app.supervisor.tether import NO_PIPE
from core.child import Child, python

TETHER = Path(__file__).with_name("tether.py")
PROBE_SECONDS = 0.1
LONGEST_PAUSE = 30.0
STABLE_SECONDS = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _always() -> bool:
    return True


def _no_repair() -> str | None:
    return None


@dataclass(frozen=True)
class Service:
    """One process to keep running."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    ready: Callable[[], bool] = _always
    on_ready: str = ""  # Said once each time it becomes ready.
    repair: Callable[[], str | None] = _no_repair  # Asked when it died before it was ready.
    grace: float = 3.0  # Seconds between SIGTERM and SIGKILL.
    quiet: tuple[str, ...] = ()  # Lines that hold one of these are not worth showing.


class Process:
    """The current process of a service and what is known about it."""

    def __init__(self, service: Service, console: Console, *, use_pipe: bool) -> None:
        self.service = service
        self.is_ready = False
        self.failures = 0
        self.start_at: float | None = 0.0  # Monotonic time of the next start while not running.
        self.console = console
        self._use_pipe = use_pipe
        self._popen: subprocess.Popen[bytes] | None = None
        self._pipe = NO_PIPE
        self._started_at = 0.0
        self._pump: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a process exists that has not been waited for."""
        return self._popen is not None

    def start(self) -> None:
        """Spawn the command in a session of its own, tethered to this process."""
        read_end = NO_PIPE
        if self._use_pipe:
            read_end, self._pipe = os.pipe()
        child = tethered(self.service.command, {**os.environ, **self.service.env}, read_end)
        self._popen = subprocess.Popen(
            child.command,
            env=child.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=() if read_end == NO_PIPE else (read_end,),
            start_new_session=True,  # Else Ctrl-C reaches every child at once, and Celery twice.
        )
        if read_end != NO_PIPE:
            os.close(read_end)
        self._started_at, self.start_at, self.is_ready = time.monotonic(), None, False
        self._feed(self._popen)

    def _feed(self, popen: subprocess.Popen[bytes]) -> None:
        if popen.stdin is None or popen.stdout is None:
            return
        with contextlib.suppress(BrokenPipeError), popen.stdin:
            popen.stdin.write(self.service.stdin)
        self._pump = threading.Thread(
            target=_copy_lines, args=(popen, self.service, self.console), daemon=True
        )
        self._pump.start()

    def poll(self) -> int | None:
        """Return the exit code once after the process ended, else None."""
        if self._popen is None or self._popen.poll() is None:
            return None
        code = self._popen.returncode
        if self._pump:
            self._pump.join(timeout=1)
        if self._pipe != NO_PIPE:
            os.close(self._pipe)
        self._popen, self._pipe = None, NO_PIPE
        return int(code)

    def probe(self) -> bool:
        """Return True when the process has just become ready."""
        if self.is_ready or not self.running or not self.service.ready():
            return False
        self.is_ready = True
        return True

    def plan_restart(self) -> float:
        """Set and return the pause before the next start: 1, 2, 4 ... 30 seconds."""
        if time.monotonic() - self._started_at >= STABLE_SECONDS:
            self.failures = 0
        pause = min(LONGEST_PAUSE, 2.0**self.failures)
        self.failures += 1
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


def tethered(command: Sequence[str], env: Mapping[str, str], pipe: int = NO_PIPE) -> Child:
    """Return a command that ends with this process; the main thread must start it."""
    return python("-I", "-S", str(TETHER), str(os.getpid()), str(pipe), *command, env=env)


def _copy_lines(popen: subprocess.Popen[bytes], service: Service, console: Console) -> None:
    if popen.stdout is None:
        return
    with popen.stdout as lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text and not any(part in text for part in service.quiet):
                console.line(service.name, text)


class Supervisor:
    """Runs services until a signal arrives; use as a context manager around start and watch.

    Args:
        console: Where the children's lines and the supervisor's own go.
        use_pipe: Tether children by a pipe instead of Linux's parent-death signal.
    """

    def __init__(self, console: Console, *, use_pipe: bool = sys.platform != "linux") -> None:
        self.stopping = False
        self.console = console
        self._use_pipe = use_pipe
        self._batches: list[list[Process]] = []
        self._signals = 0
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)

    def __enter__(self) -> Self:
        """Take over the stop signals."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)  # But nohup means what it says.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # Wakes the loop.
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop what still runs."""
        self.stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        self.stopping = True

    @property
    def _processes(self) -> list[Process]:
        return [process for batch in self._batches for process in batch]

    @property
    def killed(self) -> bool:
        """Whether a second signal asked not to wait."""
        return self._signals > 1

    def start(self, services: Iterable[Service]) -> None:
        """Start a batch; the newest batch stops first, within it the order is the same."""
        batch = [Process(one, self.console, use_pipe=self._use_pipe) for one in services]
        self._batches.append(batch)
        for process in batch:
            process.start()

    def all_ready(self) -> bool:
        """Return whether every started service answers its probe."""
        return all(process.is_ready for process in self._processes)

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Restart what dies until the condition holds or a stop signal arrives."""
        while not self.stopping and not until():
            for process in self._processes:
                self._attend(process)
            self._sleep()

    def _attend(self, process: Process) -> None:
        name, say = process.service.name, self.console.say
        code = process.poll()
        if code is not None:
            repaired = None if process.is_ready else process.service.repair()
            pause = process.plan_restart()
            process.is_ready = False
            say(repaired or f"{name} ended with {describe_exit(code)}")
            say(f"{name} starts again in {pause:.0f} s")
        if process.start_at is not None and process.start_at <= time.monotonic():
            process.start()
        if process.probe() and process.service.on_ready:
            say(process.service.on_ready)

    def stop(self) -> None:
        """End every process in order: SIGTERM, then SIGKILL after its grace or a second signal.

        Time that one process leaves unused is the next one's, so the whole takes at most the sum.
        """
        self.stopping = True
        end = time.monotonic()
        for process in [one for batch in reversed(self._batches) for one in batch]:
            process.send(signal.SIGTERM)
            end += process.service.grace
            deadline = end
            while process.running and process.poll() is None:
                if self.killed or time.monotonic() >= deadline:
                    self.console.say(f"{process.service.name} did not stop in time: killed")
                    process.send(signal.SIGKILL)
                    deadline = float("inf")
                self._sleep()
        self._batches.clear()

    def _sleep(self) -> None:
        if select.select([self._wake], [], [], PROBE_SECONDS)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)


def describe_exit(code: int) -> str:
    """Return an exit code in words; signals by name."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
