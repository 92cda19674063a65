"""A folder of somebody else's files, any of which would be loaded by a careless process."""

import re
import stat
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

OURS = ("app", "core", "models", "worker", "tests", "topwork")
CUSTOM = ("sitecustomize", "usercustomize", "celeryconfig", "conftest", "setup", "settings")
NAMES = {*sys.stdlib_module_names, *packages_distributions(), *OURS, *CUSTOM}
PROGRAMS = ("valkey-server", "redis-server", "nvidia-smi", "python3", "sh")
FILES = {
    ".env": "TOPWORK_DATA_DIR={folder}\nTOPWORK_DEFAULT_MODEL=alexnet\n",
    "alembic.ini": "[alembic]\nscript_location = {folder}\nprepend_sys_path = .\n",
    "pyproject.toml": "[tool.alembic]\nscript_location = '.'\n[tool.pytest]\n",
    "setup.cfg": "[alembic]\nscript_location = .\n",
    "pyvenv.cfg": "home = {folder}\n",
    "valkey.conf": "dir {folder}\n",
    "logging.ini": "[loggers]\nkeys = root\n",
}


class Foreign:
    """The folder; each of its modules and programs notes its name when it is run.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._notes = folder.with_name(f"{folder.name}.loaded")
        folder.mkdir(parents=True)
        for name in NAMES:
            if re.fullmatch(r"[A-Za-z_]\w*", name):
                self._module(name)
        for name in PROGRAMS:
            program = folder / name
            program.write_text(f"#!/bin/sh\necho {name} >> '{self._notes}'\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        for name, text in FILES.items():
            (folder / name).write_text(text.format(folder=folder))
        for name in ("json", "sitecustomize"):
            (folder / "lib").mkdir(exist_ok=True)
            (folder / "lib" / f"{name}.py").write_text((folder / f"{name}.py").read_text())
        self._made = self._listing()

    def _module(self, name: str) -> None:
        # The name of the module itself may be the one that `open` needs, so nothing is imported.
        note = f"with open({str(self._notes)!r}, 'a') as f: f.write({name!r} + chr(10))\n"
        (self.folder / f"{name}.py").write_text(note)
        if name in OURS:
            package = self.folder / name
            package.mkdir()
            for file in ("__init__", "__main__", "main", "cli", "client"):
                (package / f"{file}.py").write_text(note)

    def loaded(self) -> set[str]:
        """Return the names of what was run."""
        return set(self._notes.read_text().split()) if self._notes.exists() else set()

    def forget(self) -> None:
        """Begin anew."""
        self._notes.unlink(missing_ok=True)
        for path in self._listing() - self._made:
            if path.is_file():
                path.unlink()

    def untouched(self) -> bool:
        """Tell whether the folder holds what it held."""
        return self._listing() == self._made

    def _listing(self) -> set[Path]:
        return set(self.folder.rglob("*"))
