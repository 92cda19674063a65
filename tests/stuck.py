"""Places for output that take nothing: a terminal after Ctrl-S, and a pipe whose reader sleeps."""

import os
import pty
import select
import tty
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = ("terminal", "pipe")
CTRL_S, CTRL_Q = b"\x13", b"\x11"


class Stuck:
    """One such place.

    Attributes:
        fd: What a process gets as its stdout and stderr.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        if kind == "terminal":
            self._reader, self.fd = pty.openpty()
            tty.setcbreak(self.fd)  # It has flow control, but shows nobody what is typed.
            os.write(self._reader, CTRL_S)
        else:
            self._reader, self.fd = os.pipe()
            os.set_blocking(self.fd, False)
            for size in (65536, 1):
                try:
                    while True:
                        os.write(self.fd, b"x" * size)
                except BlockingIOError:
                    pass
            os.set_blocking(self.fd, True)

    def takes_nothing(self) -> bool:
        """Tell whether whoever writes there would wait."""
        return select.select([], [self.fd], [], 0)[1] == []

    def awake(self) -> None:
        """Let it go on."""
        if self._kind == "terminal":
            os.write(self._reader, CTRL_Q)

    def read(self, seconds: float = 0.5) -> bytes:
        """Return what has arrived, when nothing more has come for so long."""
        got = b""
        while select.select([self._reader], [], [], seconds)[0]:
            got += os.read(self._reader, 65536)
        return got

    def close(self) -> None:
        """Leave nothing open."""
        os.close(self._reader)
        os.close(self.fd)


@contextmanager
def stuck(kind: str) -> Iterator[Stuck]:
    """Yield one that takes nothing."""
    place = Stuck(kind)
    try:
        assert place.takes_nothing()
        yield place
    finally:
        place.close()
