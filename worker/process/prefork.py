"""Warm starts: keep a forkserver alive, and have it fork the processes of jobs."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Self

import structlog

from core.system.child import reader
from worker.process.forkserver import READY

ANSWER_SECONDS = 5.0  # A forkserver that takes longer to fork is given up.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0  # Seconds between forkservers; a preload costs many.
HEALTHY_SECONDS = 60.0  # After so long the pauses begin anew.
log = structlog.get_logger()


class WarmStart:
    """Keeps one `worker.process.forkserver`, which dies with the context.

    Its children live on.

    While there is none, or none that answers, `fork` says so and the caller starts cold.

    Args:
        modules: What the forkserver imports and can run.
        threads: Size of its children's OpenMP pools; the library reads it when it is imported.
    """

    def __init__(self, modules: Collection[str], threads: int) -> None:
        self.modules, self.threads = sorted(modules), threads
        self._forkserver: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        # The kernel ties a forkserver to the thread that started it, so this one stays.
        self._thread = threading.Thread(target=self._keep, name="forkserver", daemon=True)

    def __enter__(self) -> Self:
        """Start the first forkserver."""
        if sys.platform == "linux" and self.modules:
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave no forkserver behind."""
        self._closing.set()
        with self._lock:
            self._kill()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def pid(self) -> int | None:
        """Id of the forkserver when it is ready."""
        with self._lock:
            return self._forkserver.pid if self._forkserver and self._control else None

    def fork(
        self, module: str, run_dir: Path, *, output: int, threads: int
    ) -> tuple[int, socket.socket] | None:
        """Start a child.

        Args:
            module: What to run.
            run_dir: The attempt's folder.
            output: Descriptor that takes stdout and stderr.
            threads: Size of its OpenMP pools.

        Returns:
            The id of its guard and its lifeline, or None when it has to start cold.
        """
        message = json.dumps({"module": module, "run_dir": str(run_dir)}).encode()
        with self._lock:
            fitting = module in self.modules and threads == self.threads
            if self._control is None or not fitting:
                return None
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(self._control, [message], [theirs.fileno(), output])
                ours.settimeout(ANSWER_SECONDS)
                guard = int(ours.recv(32))
            except (OSError, ValueError) as error:
                # A guard that is born later finds its lifeline closed and does nothing.
                ours.close()
                log.warning("forkserver.unanswered", error=repr(error))
                self._kill()
                return None
        ours.settimeout(0)
        return guard, ours

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                ended: object = self._raise_one()
            except OSError as error:
                ended = repr(error)
            if time.monotonic() - began > HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            if not self._closing.is_set():
                log.warning("forkserver.ended", code=ended, pause=pause)
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _raise_one(self) -> int:
        """Start a forkserver, offer it while it lives, and return its exit code."""
        began = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                child = reader(
                    "-m", "worker.process.forkserver", *self.modules, threads=self.threads
                )
                forkserver = subprocess.Popen(
                    child.command,
                    stdin=theirs.fileno(),
                    env=child.env,
                    start_new_session=True,
                )
            with self._lock:
                self._forkserver = forkserver
                if self._closing.is_set():
                    self._kill()
            try:
                if ours.recv(len(READY)) == READY:
                    seconds = round(time.monotonic() - began, 2)
                    log.info("forkserver.ready", pid=forkserver.pid, seconds=seconds)
                    ours.settimeout(ANSWER_SECONDS)
                    with self._lock:
                        self._control = ours
                return forkserver.wait()
            finally:
                with self._lock:
                    self._kill()
                    self._forkserver = self._control = None
                forkserver.wait()

    def _kill(self) -> None:
        if self._forkserver is not None:
            self._forkserver.kill()
        self._control = None
