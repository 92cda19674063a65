"""The supervisor's output: one line at a time from many threads, prefixed with its source.

`topwork up` installs `core.system.log_outlet` before, so no thread waits for a terminal.
"""

import contextlib
import json
import os
import re
import sys
from typing import TextIO

from core.system import log_outlet

SOURCE_COLOURS = {"topwork": "1", "api": "36", "worker": "32", "predictor": "35", "valkey": "33"}
WIDTH = max(map(len, SOURCE_COLOURS))
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # All but tab and line feed.


class Console:
    """Writes `source | text`; on a terminal coloured (unless NO_COLOR is set) and without JSON."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._terminal = (stream or sys.stdout).isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR")

    def line(self, source: str, text: str) -> None:
        """Write one line; a reader that has gone away is not an error."""
        prefix = f"{source:<{WIDTH}} |"
        if self._terminal:
            text = harmless(readable(text))
        if self._colour:
            prefix = f"\x1b[{SOURCE_COLOURS.get(source, '34')}m{prefix}\x1b[0m"
        with contextlib.suppress(OSError, ValueError):
            stream = self._stream or sys.stdout
            stream.write(f"{prefix} {text}\n")  # In one piece: others write, too.
            stream.flush()

    def say(self, text: str) -> None:
        """Write a line of the supervisor's own."""
        self.line("topwork", text)


def missing(lines: int) -> str:
    """Say how many lines nobody took while there was room for them."""
    return f"{'topwork':<{WIDTH}} | {log_outlet.dropped(lines)}"


def readable(text: str) -> str:
    """Return a structured log line as people read it; any other line unchanged."""
    try:
        fields = json.loads(text)
        event, level = fields.pop("event"), fields.pop("level", "info")
    except (ValueError, KeyError, TypeError, AttributeError):
        return text
    trace = fields.pop("exception", None)
    fields.pop("timestamp", None)
    # A line break in a value, a path for example, must not look like another line.
    words = [event, *(f"{name}={value}".replace("\n", "\\n") for name, value in fields.items())]
    start = "" if level == "info" else f"{level.upper()} "
    return start + " ".join(words) + (f"\n{trace}" if trace else "")


def harmless(text: str) -> str:
    """Show control characters: a logged request must not be able to steer the terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
