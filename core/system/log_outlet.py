"""Non-blocking output: lines go into a bounded queue, and a thread writes them.

A terminal that Ctrl-S has stopped, a pipe whose reader sleeps and the blocking log driver of a
container take nothing for as long as they like. A process that waited for them would answer nothing
meanwhile, renew no lease and not even end. So the oldest lines are dropped, and their number told.
"""

import atexit
import contextlib
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

MOST_BYTES = 1024 * 1024
AT_ONCE_BYTES = 64 * 1024
FLUSH_SECONDS = 0.5

Notice = Callable[[int], str]


class Outlet:
    """A queue of lines in front of a descriptor; safe from any thread and from signal handlers.

    Args:
        fd: Where the lines are written.
        notice: Says, as a line, how many were dropped.
        most: Bytes that wait at most.
    """

    def __init__(self, fd: int, notice: Notice, most: int = MOST_BYTES) -> None:
        self._fd, self._notice, self._most = fd, notice, most
        self._lines: deque[bytes] = deque()
        self._bytes = self._dropped = 0
        self._idle = True
        # A signal handler may write while its own thread does.
        self._changed = threading.Condition(threading.RLock())
        threading.Thread(target=self._work, name="outlet", daemon=True).start()

    def put(self, text: bytes) -> None:
        """Queue lines that belong together, and return at once."""
        text = text[: self._most]
        with self._changed:
            self._lines.append(text)
            self._bytes += len(text)
            while self._bytes > self._most:
                oldest = self._lines.popleft()
                self._bytes -= len(oldest)
                self._dropped += oldest.count(b"\n")
            self._idle = False
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until all is written, but no longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                text = self._take()
            self._write(text)
            with self._changed:
                self._idle = not self._lines
                self._changed.notify_all()

    def _take(self) -> bytes:
        taken = [self._notice(self._dropped).encode() + b"\n"] if self._dropped else []
        self._dropped = size = 0
        while self._lines and size < AT_ONCE_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        self._bytes = self._bytes - size if self._lines else 0
        return b"".join(taken)

    def _write(self, text: bytes) -> None:
        """Write to the descriptor itself: the lock of a stream would hold up the process's end."""
        rest = memoryview(text)
        with contextlib.suppress(OSError):  # Whoever read it has gone; another may come.
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:  # Somebody else made it so.
                    select.select([], [self._fd], [])


class Lines(io.TextIOBase):
    """A text stream that puts whole lines into an outlet; takes the place of stdout or stderr.

    Args:
        outlet: Where the lines go.
        fd: The descriptor behind it, for what is started with this stream.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, outlet: Outlet, fd: int) -> None:
        self._outlet, self._fd = outlet, fd
        self._open = ""
        self._lock = threading.RLock()

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Tell whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def fileno(self) -> int:
        """Return the descriptor; what is written there directly is waited for."""
        return self._fd

    def write(self, text: str) -> int:
        """Take text; what follows its last line break waits for the rest of its line."""
        with self._lock:
            *lines, self._open = (self._open + text).split("\n")
            if lines:
                self._put("\n".join([*lines, ""]))
        return len(text)

    def flush(self) -> None:
        """Pass on a line that is not complete; nothing is waited for."""
        with self._lock:
            text, self._open = self._open, ""
            if text:
                self._put(text)

    def wait(self, seconds: float) -> None:
        """Wait until all is written, but no longer than this."""
        self.flush()
        self._outlet.flush(seconds)

    def _put(self, text: str) -> None:
        self._outlet.put(text.encode(self.encoding, self.errors))


def dropped(lines: int) -> str:
    """Say for people how many lines are missing here."""
    return f"({lines} lines were dropped: nobody took them)"


def install(notice: Notice = dropped) -> None:
    """Have this process wait for neither its stdout nor its stderr, whatever writes there.

    That is logging, warnings, tracebacks and prints; at a normal end the queues get FLUSH_SECONDS.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Closed, or already somebody's own, as in a test.
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        setattr(sys, name, Lines(Outlet(stream.fileno(), notice), stream.fileno()))
    atexit.register(flush)


def flush() -> None:
    """Give what is queued the time that it gets before the process ends."""
    until = time.monotonic() + FLUSH_SECONDS
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Lines):
            stream.wait(max(0.0, until - time.monotonic()))
