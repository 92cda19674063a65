"""The commands of this installation as a shell needs them, so that every hint works.

`topwork` alone is right only where it leads here: in a container, in an activated environment. From
a checkout without one it is `.venv/bin/topwork`. A hint also names the folders that the process
which gives it was told to use, where a new shell would not find them by itself.
"""

import shlex
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from core.system.child import which

PROGRAM, PROJECT = "topwork", Path(__file__).parents[2]
# Where a command finds the service and its files unless it is told; the key is its option.
USUAL = {
    "data_dir": Path("~/.topwork"),
    "weights_dir": Path("~/.topwork/weights"),
    "url": "http://127.0.0.1:8000",
}
IMAGE = Path("/etc/topwork-image")  # The Dockerfile leaves it.


def command(*words: str, **places: Path | str) -> str:
    """Return a command of `topwork` in backticks.

    Args:
        words: Subcommand and arguments; a word in capitals is for the reader to fill in.
        places: `data_dir`, `weights_dir` or `url` of the service that gives the hint; it becomes an
            option where the command would look elsewhere.
    """
    for name, place in places.items():
        usual = USUAL[name]
        if place != (usual.expanduser() if isinstance(usual, Path) else usual):
            words = (*words, f"--{name.replace('_', '-')}", str(place))
    return f"`{shlex.join([*program(), *words])}`"


def program() -> list[str]:
    """Return the words that call the command line of this installation."""
    schemes = sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")
    scripts = (Path(sysconfig.get_path("scripts", scheme), PROGRAM) for scheme in schemes)
    script = next((one for one in scripts if one.is_file()), None)
    if script is None:
        return [sys.executable, "-P", "-m", "app.cli"]
    found = which(PROGRAM)
    return [PROGRAM] if found and script.samefile(found) else [str(script)]


def install(extra: str) -> str:
    """Return the command, in backticks, that adds an extra to this installation."""
    words = [sys.executable, "-m", "pip", "install"]
    if find_spec("pip") is None:  # As in what uv and pipx make.
        words = ["uv", "pip", "install", "--python", sys.executable]
    wanted = f"{PROGRAM}[{extra}]"
    if (lock := PROJECT / "requirements.lock").is_file():  # A checkout.
        words += ["--constraint", str(lock), "--editable"]
        wanted = f"{PROJECT}[{extra}]"
    return f"`{shlex.join([*words, wanted])}`"


def where() -> str:
    """Return where a command has to be run, for readers who may sit elsewhere."""
    return "in a container of the worker" if in_image() else "on the service's machine"


def in_image() -> bool:
    """Tell whether this process runs in one of our images, where nothing can be installed."""
    return IMAGE.exists()
