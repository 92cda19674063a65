"""What runs on this machine, as /proc tells it."""

import contextlib
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the children of a process, whichever of its threads started them, and theirs."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):  # It may have ended by now.
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, listed.read_text().split())
    return [n for child in found for n in (child, *descendants(child))]


def command_line(pid: int) -> str:
    """Return the words of a process, nothing for one that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def alive(pids: list[int]) -> list[int]:
    """Return those that run; a zombie that its new parent has not reaped yet does not."""
    return [pid for pid in pids if command_line(pid)]


def given(name: str, value: object) -> list[int]:
    """Return all processes that were started with a variable of their environment set so."""
    found, wanted = [], f"{name}={value}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def mentioning(text: str) -> list[str]:
    """Return the command lines of all processes that contain a text."""
    lines = (command_line(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return [line for line in lines if text in line]
