"""A process says that it is ready once, to its starter alone."""

import os
import subprocess
import sys

from core.system.child import python
from core.system.readiness_signal import VARIABLE

SAYS = "from core.system.readiness_signal import announce\n"
TWICE = f"""{SAYS}
import os
announce()
number = int(os.environ[{VARIABLE!r}])
os.dup2(os.open(os.devnull, os.O_RDWR), number)  # Another file takes the number.
announce()
os.fstat(number)
"""


def told(code: str) -> bytes:
    reader, writer = os.pipe()
    child = python("-c", code, env={**os.environ, VARIABLE: str(writer)})
    subprocess.run(child.command, env=child.env, pass_fds=[writer], check=True)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


def test_it_is_told_once_and_no_other_file_is_written_to() -> None:
    assert told(TWICE) == b"\n"


def test_what_never_says_so_is_not_ready() -> None:
    assert told(SAYS) == b""


def test_who_is_not_asked_says_nothing() -> None:
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    subprocess.run([sys.executable, "-P", "-c", f"{SAYS}announce()"], env=env, check=True)


def test_a_starter_that_has_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    child = python("-c", f"{SAYS}announce()", env={**os.environ, VARIABLE: str(writer)})
    subprocess.run(child.command, env=child.env, pass_fds=[writer], check=True)
    os.close(writer)
