"""End with the process that started this one: a function, and a script that does it for a command.

`python tether.py PARENT_PID PIPE_FD COMMAND...` runs a command that cannot outlive its starter.
Linux delivers a signal when the parent dies, so there this process turns into the command. Where
that does not exist it stays as the command's parent and watches a pipe that only the starter
holds open. The script imports nothing of ours: it starts in 10 ms, isolated, and the supervisor's
threads never run Python between fork and exec.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
ORPHANED = 1  # Exit code of who is too late.
NO_PIPE = -1


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when the thread that started it ends.

    It is a request of Linux alone, prctl(2); elsewhere nothing is asked.

    Args:
        parent: Id of the process that started this one. Where it has died before the request was
            made, this process leaves at once. None where something else tells of its death.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(ORPHANED)


def main(parent: int, pipe: int, command: list[str]) -> int:
    """Become the command, or run it until it ends or the pipe closes; return its exit code."""
    if pipe != NO_PIPE:
        return _run_while_open(pipe, command)
    die_with_parent(parent)
    return os.execvp(command[0], command)  # noqa: S606 - a fixed argument list, no shell wanted.


def _run_while_open(pipe: int, command: list[str]) -> int:
    os.set_inheritable(pipe, False)  # noqa: FBT003 - as the function has it.
    child = subprocess.Popen(command, close_fds=False)  # What it was given is for the command.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        child.kill()

    threading.Thread(target=watch, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
