"""Run a module that cannot outlive its worker: `python -P -m worker.process.guard MODULE RUN_DIR`.

Two processes in one group: this one guards, the one it forks does the work. The guard's standard
input is the lifeline, a socket whose other end only the worker holds. Each line that arrives is
the monotonic time until which the worker's claim is good; the work starts with the first. When the
lifeline closes (the worker died) or the time passes (the worker is frozen, or cut off from the
database) the guard kills the group. The one line that it sends is the work's exit code; then it
stays until it is killed, so that its number, which is the group's, cannot become another's.
It imports nothing heavy and never waits for anything else, so neither a crash nor a lock inside
the work can keep the work alive.
"""

import contextlib
import ctypes
import os
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from core.system.tether import die_with_parent

PR_SET_NAME = 15
NAME = b"worker.guard"  # What `ps` calls it, forked or started; at most 15 bytes.
LIFELINE = 0
NICENESS = 10  # Serving goes first: a busy trainer at nice 19 cost a predictor nothing, at 0 2x.
OOM_SCORE = "500"  # The kernel should pick the work, not the api or the worker.
SIGNALLED = 128  # Exit code of a work that a signal ended: 128 + its number, as shells say it.


def main(module: str, run_dir: str) -> None:
    """Fork; guard in the parent, work in the child: neither comes back from here.

    The guard ends killed by itself or by the worker, the work by SystemExit from its module.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, NAME)
    guard = os.getpid()
    lifeline = Lifeline(LIFELINE)
    while lifeline.good_until == float("inf"):
        lifeline.read()
    work = os.fork()
    if work:
        watch(work, lifeline)
    become_work(guard)
    sys.argv = [module, run_dir]
    sys.modules.pop(module, None)  # In a forkserver it is there; what it imported is what counts.
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:  # noqa: BLE001 - it never came to where RUN_DIR says what happened.
        from core.system.run_dir import RunDir  # noqa: PLC0415 - the guard needs nothing of it.

        traceback.print_exc()
        sys.exit(RunDir(Path(run_dir)).give_up(error, began=False))


def become_work(guard: int) -> None:
    """Tie this process to its guard, and give way to the rest of the machine."""
    die_with_parent(guard)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, LIFELINE)
    os.close(nothing)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A crash must not fill the disk.


class Lifeline:
    """The guard's end of the lifeline: how long the claim is good; its close kills the group."""

    def __init__(self, number: int) -> None:
        self.number, self.good_until = number, float("inf")
        self._unread = b""

    def read(self) -> None:
        """Wait for news and take it over."""
        try:
            news = os.read(self.number, 4096)
        except ConnectionResetError:  # The worker died before it had read the exit code.
            news = b""
        if not news:
            os.killpg(0, signal.SIGKILL)
        *lines, self._unread = (self._unread + news).split(b"\n")
        if lines:
            self.good_until = float(lines[-1])

    def tell(self, code: int) -> None:
        """Send the work's exit code; a worker that is gone needs none."""
        with contextlib.suppress(OSError):
            os.write(self.number, b"%d\n" % code)


def watch(work: int, lifeline: Lifeline) -> NoReturn:
    """Tell the work's exit code once it has ended; kill the whole group at the lifeline's end."""

    def pass_on(*_signal: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # It may have ended this very moment.
            os.kill(work, signal.SIGTERM)

    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # Wakes the select below.
    signal.signal(signal.SIGTERM, pass_on)
    works = True
    while True:
        if works:
            ended, status = os.waitpid(work, os.WNOHANG)
            if ended:
                works = False
                code = os.waitstatus_to_exitcode(status)
                lifeline.tell(code if code >= 0 else SIGNALLED - code)
        left = lifeline.good_until - time.monotonic()
        if left <= 0:
            os.killpg(0, signal.SIGKILL)
        ready = select.select([lifeline.number, awake], [], [], left)[0]
        if awake in ready:
            os.read(awake, 4096)
        if lifeline.number in ready:
            lifeline.read()


if __name__ == "__main__":
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    main(*sys.argv[1:])
