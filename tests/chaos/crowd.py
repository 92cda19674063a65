"""Start many processes of one module at the same moment and collect what each says in the end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def crowd(
    module: str, arguments: Sequence[Sequence[object]], environment: dict[str, str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start `python -m module` once for each list of arguments; each says `ready` and waits."""
    members = [
        subprocess.Popen(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in arguments
    ]
    try:
        for member in members:
            assert member.stdout is not None
            assert member.stdout.readline() == "ready\n"
        yield members
    finally:
        for member in members:
            member.kill()
            member.communicate()


def start(members: Sequence[subprocess.Popen[str]]) -> None:
    """Let them go."""
    for member in members:
        assert member.stdin is not None
        member.stdin.write("go\n")
        member.stdin.flush()


def answers(members: Sequence[subprocess.Popen[str]], timeout: float = 120) -> list[Any]:
    """Wait for each and return the JSON that it printed; its input ends here."""
    said = [member.communicate(timeout=timeout)[0] for member in members]
    assert all(said), "a process broke down"
    return [json.loads(text) for text in said]
