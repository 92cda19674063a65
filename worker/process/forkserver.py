"""Fork children that need not import: `python -P -m worker.process.forkserver MODULE...`.

This process imports the modules and does nothing else with them, so that it has one thread and
no device open, and forking it is safe. Standard input is a socket whose other end only the worker
holds: `ready` goes out once, then each message that comes in starts a child. Nothing about a child
depends on this process after the fork: it may die, and the work goes on.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from core.system.tether import die_with_parent
from worker.process import guard

CONTROL = 0
READY = b"ready"
MESSAGE_BYTES = 64 * 1024
OUTPUTS = (1, 2)


def main(modules: list[str]) -> None:
    """Import, then fork for whoever asks; a fork comes back from `serve` with its orders."""
    die_with_parent()  # Whether it was in time is told by the socket.
    control = socket.socket(fileno=CONTROL)
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # A collection in a child would otherwise copy every page it looks at.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits here for a child's end.
    leave_if_unfit()
    control.send(READY)
    order = serve(control)
    if order is not None:
        control.detach()
        guard.main(*order)


def serve(control: socket.socket) -> tuple[str, str] | None:
    """Fork once for each message until the worker is gone.

    Returns:
        In a child what to run, module and RUN_DIR; None at the end.
    """
    while True:
        message, numbers, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return None
        order = json.loads(message)
        leave_if_unfit()
        if not os.fork():
            become_guard(*numbers)
            return order["module"], order["run_dir"]
        for number in numbers:
            os.close(number)


def leave_if_unfit() -> None:
    """Say why and end at once, whatever the threads are doing that should not be here."""
    if reason := unfit():
        sys.stderr.write(f"the forkserver cannot fork: {reason}\n")
        os._exit(1)


def unfit() -> str:
    """Return why a fork of this process might hang or break, or nothing.

    A lock that another thread holds stays locked in a child; a driver's handle does not work there.
    """
    if (threads := len(list(Path("/proc/self/task").iterdir()))) != 1:
        return f"it has {threads} threads"
    for number in Path("/proc/self/fd").iterdir():
        if number.is_symlink() and str(number.readlink()).startswith("/dev/nvidia"):
            return "it has touched a device"
    return ""


def become_guard(lifeline: int, output: int) -> None:
    """Take the place of a `worker.process.guard` that was started cold, and say who it is."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(lifeline, guard.LIFELINE)
    for number in OUTPUTS:
        os.dup2(output, number)
    os.close(lifeline)
    os.close(output)
    os.write(guard.LIFELINE, b"%d\n" % os.getpid())


if __name__ == "__main__":
    main(sys.argv[1:])
