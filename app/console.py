"""The supervisor's output: one line at a time from many threads, prefixed with its source."""

import contextlib
import os
import sys
import threading
from typing import TextIO

SOURCE_COLOURS = {"topwork": "1", "api": "36", "worker": "32", "predictor": "35", "valkey": "33"}
WIDTH = max(map(len, SOURCE_COLOURS))


class Console:
    """Writes `source | text`, coloured on a terminal unless NO_COLOR is set."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()

    def line(self, source: str, text: str) -> None:
        """Write one line; a reader that has gone away is not an error."""
        prefix = f"{source:<{WIDTH}} |"
        if self._colour:
            prefix = f"\x1b[{SOURCE_COLOURS.get(source, '34')}m{prefix}\x1b[0m"
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{prefix} {text}\n")
            self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line of the supervisor's own."""
        self.line("topwork", text)
