"""Keep a table of processes running until told to stop: start, probe, restart, stop in order.

Everything but the copying of output happens in the main thread: Linux ties "die with the parent"
to the thread that forked, and signals wake the loop through a pipe instead of a lock.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from app.supervisor.console import Console
from app.supervisor.process import Process, Service
from topwork.errors import TopworkError

PROBE_SECONDS = 0.1
MOST_STARTS = 3  # Of a service that has never been ready.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ChildFailed(TopworkError):
    """A process of the service ended three times before it was ready."""

    status, code = 503, "child_failed"
    hint = "Its last words say why."


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
        self._told_ready = False
        self._before: dict[signal.Signals, Any] = {}
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)

    def __enter__(self) -> Self:
        """Take over the stop signals."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        # But nohup means what it says. This one wakes the loop.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop what still runs, and leave the signals as they were."""
        self.stop()
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for end in (self._wake, self._waker):
            os.close(end)

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

    def watch(
        self,
        until: Callable[[], bool] = lambda: False,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Restart what dies until the condition holds or a stop signal arrives.

        Args:
            until: Asked about ten times a second.
            on_ready: Called each time that all services have become ready.

        Raises:
            ChildFailed: A service ended three times, and has never been ready.
        """
        while not self.stopping and not until():
            for process in self._processes:
                self._attend(process)
            ready, told = self.all_ready(), self._told_ready
            self._told_ready = ready
            if ready and not told:
                on_ready()
            self._sleep()

    def _attend(self, process: Process) -> None:
        name, say = process.service.name, self.console.say
        code = process.poll()
        if code is not None:
            repaired = None if process.is_ready else process.service.repair()
            say(repaired or f"{name} ended with {describe_exit(code)}")
            if not process.was_ready and process.starts >= MOST_STARTS:
                words = f"{name} ended {process.starts} times before it was ready"
                last = "".join(f"\n  {line}" for line in process.last)
                raise ChildFailed(f"{words}, at last with {describe_exit(code)}.{last}")
            say(f"{name} starts again in {process.plan_restart():.0f} s")
        if process.start_at is not None and process.start_at <= time.monotonic():
            process.start()
        if process.probe():
            say(f"{name} is ready")

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
