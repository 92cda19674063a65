"""Start a Python process of Topwork: one way to make its command and its environment.

`python -m MODULE` looks for modules in the current folder first. Whoever starts the service beside
an `app/` or a `numpy/` of their own would run that code, so every process that we start gets
Python's safe path (https://docs.python.org/3/using/cmdline.html#cmdoption-P).
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.system import failpoints, machine, tether

# Lists of folders from which code is loaded; an empty or relative entry is the current folder.
LIBRARIES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
FOLDERS = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "PYTHONPYCACHEPREFIX",
    *LIBRARIES,
)
# What runs in, or turns a process into, an interactive session; a service has none.
INTERACTIVE = ("PYTHONSTARTUP", "PYTHONINSPECT")
# Variables with secrets: ours, those of what we connect to, and of whoever started us.
SECRET = re.compile(r"TOPWORK_|AWS_|PG|.*(SECRET|TOKEN|PASSW|CREDENTIAL|_KEY$|_PAT$|DATABASE_URL)")
ABSOLUTE = ("/", "$ORIGIN", "${ORIGIN}")  # The dynamic linker puts its own path in place of these.


class Child(NamedTuple):
    """What a process is started with: `Popen(child.command, env=child.env)`."""

    command: tuple[str, ...]
    env: dict[str, str]


def python(*words: str, env: Mapping[str, str] | None = None) -> Child:
    """Return how to start a Python process that loads no code from the current folder.

    Kept of the environment is what its owner set on purpose: absolute entries of PYTHONPATH, the
    place of Python itself, and the user's own site-packages, where Topwork itself may be installed.

    Args:
        words: What follows `python`, for example `-m`, `core.store.migrate`.
        env: What the process sees; the environment of this one where it is None.
    """
    seen = environment(os.environ if env is None else env)
    return Child((sys.executable, "-P", *words), seen)


def reader(*words: str, threads: int = 1) -> Child:
    """Return how to start a Python process that reads what strangers sent; it sees no secrets.

    Its threads of OpenMP sleep while they wait, unless its owner said otherwise (`machine.SLEEP`).
    OPENBLAS_NUM_THREADS=1 because numpy's BLAS otherwise starts threads when it is imported, which
    reserve most of a bounded address space, and a forkserver must have none.

    Args:
        words: What follows `python`.
        threads: The share of this machine's cores that torch may take.
    """
    open_to_all = {
        name: value
        for name, value in os.environ.items()
        if not SECRET.match(name.upper()) or name == failpoints.VARIABLE
    }
    bounded = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(threads)}
    return python(*words, env=machine.SLEEP | open_to_all | bounded | {"PYTHONUNBUFFERED": "1"})


def tethered(command: Sequence[str], env: Mapping[str, str], pipe: int = tether.NO_PIPE) -> Child:
    """Return a command that ends with this process; the main thread must start it.

    Args:
        command: What to run.
        env: What it sees.
        pipe: Where the kernel cannot end it: the end to read of a pipe that only this process has.
    """
    return python("-I", "-S", tether.__file__, str(os.getpid()), str(pipe), *command, env=env)


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what would have a process load code from the current folder.

    PYTHONSAFEPATH is for the processes that libraries start with this Python in turn.
    """
    seen = {name: value for name, value in env.items() if name not in INTERACTIVE}
    for name in FOLDERS:
        listed = seen.pop(name, "")
        # The dynamic linker takes semicolons, too; elsewhere they are part of a name.
        if kept := absolute(listed.replace(";", ":") if name in LIBRARIES else listed):
            seen[name] = kept
    return seen | {"PYTHONSAFEPATH": "1"}


def which(program: str) -> str | None:
    """Return where a program is, unless PATH leads to the current folder only."""
    return shutil.which(program, path=absolute(os.environ.get("PATH", os.defpath)))


def absolute(folders: str) -> str:
    """Return a list of folders without the entries that mean the current folder."""
    return ":".join(one for one in folders.split(":") if one.startswith(ABSOLUTE))
