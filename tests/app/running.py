"""Start a supervisor, read what it says, stop it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.app.processes import command_line, descendants
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Up:
    """A supervisor in a process of its own, and what it wrote."""

    def __init__(
        self,
        log: Path,
        *command: str,
        program: Sequence[str] = (sys.executable, "-P", "-m"),
        cwd: Path = ROOT,
        output: int | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as file:
            out = file.fileno() if output is None else output
            self.popen = subprocess.Popen(
                (*program, *command),
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,
            )

    def said(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.log.read_text())

    def wait_said(self, pattern: str, times: int = 1) -> str:
        def enough() -> bool:
            assert self.popen.poll() is None, self.log.read_text()
            return len(self.said(pattern)) >= times

        wait_for(enough, timeout=120)
        return self.said(pattern)[-1]

    def wait_ready(self) -> int:
        """Return the port once all children run."""
        self.wait_said(r"worker +\| pid")
        return int(self.wait_said(r"ready at http://127\.0\.0\.1:(\d+)"))

    def child(self, part: str) -> int:
        """Return the pid of the child whose command line holds a text."""
        return next(pid for pid in descendants(self.popen.pid) if part in command_line(pid))

    def interrupt(self) -> tuple[int, float]:
        """Press Ctrl-C, which its whole group gets; return exit code and seconds it took."""
        start = time.monotonic()
        os.killpg(self.popen.pid, signal.SIGINT)
        return self.popen.wait(60), time.monotonic() - start

    def kill(self) -> None:
        """End it however it is."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
