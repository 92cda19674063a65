"""A process that is asked one thing and prints one line of JSON: the answer, or a named error.

For work that its asker cannot do in its own process: it needs torch, or reads a stranger's file.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from core.system.child import Child
from core.system.disk import is_full
from topwork.errors import DiskFull, TopworkError, from_dict


class ChildDied(Exception):
    """The process ended without an answer; says its last line."""


def answer(work: Callable[[], Any]) -> None:
    """Print what `work` returns, or the TopworkError that it raises; a full disk is `DiskFull`."""
    try:
        said = {"answer": work()}
    except TopworkError as error:
        said = {"error": error.to_dict()}
    except OSError as error:
        if not is_full(error):
            raise
        said = {"error": DiskFull().to_dict()}
    sys.stdout.write(json.dumps(said) + "\n")


def read(output: bytes) -> Any:
    """Return the answer that a child has printed.

    Raises:
        TopworkError: The one that it has printed.
        ValueError: It has printed neither.
    """
    said = json.loads(output.rstrip().rpartition(b"\n")[2])  # A library may have printed more.
    if not isinstance(said, dict) or not said.keys() & {"answer", "error"}:
        raise ValueError(output[:80])
    if "error" in said:
        raise from_dict(said["error"])
    return said["answer"]


def ask(child: Child, *, seconds: float | None = None) -> Any:
    """Run a child to its end and return its answer.

    Raises:
        TopworkError: The one that it has printed.
        ChildDied: It ended without an answer.
        subprocess.TimeoutExpired: It took over `seconds` and was killed.
    """
    done = subprocess.run(
        child.command,
        env=child.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=seconds,
    )
    try:
        return read(done.stdout)
    except ValueError:
        words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ChildDied(words or f"exit code {done.returncode}") from None
