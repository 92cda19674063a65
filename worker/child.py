"""Run a module that cannot outlive its worker: `python -m worker.child MODULE RUN_DIR`.

Two processes in one group: this one guards, the one it forks does the work. The guard reads its
standard input, the lifeline, whose other end only the worker holds. Each line there is the
monotonic time until which the worker's claim is good. When the lifeline closes (the worker died)
or the time passes (the worker is frozen, or cut off from the database) the guard kills the group.
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
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIFELINE = 0
NICENESS = 10  # Serving goes first: a busy trainer at nice 19 cost a predictor nothing, at 0 2x.
OOM_SCORE = "500"  # The kernel should pick the work, not the api or the worker.
SIGNALLED = 128  # Exit code of a work that a signal ended: 128 + its number, as shells say it.


def main(module: str, run_dir: str) -> int:
    """Fork; guard in the parent, work in the child.

    Returns:
        The exit code of the work; in the work itself runpy's own end leaves this function.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    guard = os.getpid()
    work = os.fork()
    if work:
        return watch(work, LIFELINE)
    become_work(guard)
    sys.argv = [module, run_dir]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def become_work(guard: int) -> None:
    """Tie this process to its guard, and give way to the rest of the machine."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    if os.getppid() != guard:  # It died before the request could be made.
        os._exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, LIFELINE)
    os.close(nothing)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A crash must not fill the disk.


def watch(work: int, lifeline: int) -> int:
    """Wait for the work and return its exit code; kill the whole group at the lifeline's end."""

    def pass_on(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # It may have ended this very moment.
            os.kill(work, signal.SIGTERM)

    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # Wakes the select below.
    signal.signal(signal.SIGTERM, pass_on)
    good_until, unread = float("inf"), b""
    while True:
        ended, status = os.waitpid(work, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else SIGNALLED - code
        left = good_until - time.monotonic()
        if left <= 0:
            os.killpg(0, signal.SIGKILL)
        timeout = None if left == float("inf") else left
        ready = select.select([lifeline, awake], [], [], timeout)[0]
        if awake in ready:
            os.read(awake, 4096)
        if lifeline in ready:
            news = os.read(lifeline, 4096)
            if not news:
                os.killpg(0, signal.SIGKILL)
            *lines, unread = (unread + news).split(b"\n")
            if lines:
                good_until = float(lines[-1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
