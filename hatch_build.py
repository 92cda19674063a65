"""Hook of the wheel and the sdist: builds the web page into `app/static` where npm is at hand.

A page that is there already is kept: an sdist carries it, so its wheel needs no npm.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageBuildHook(BuildHookInterface[Any]):
    """Builds the page before the files of a distribution are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build where it is wanted, possible and not done; editable ones use `make setup`."""
        del build_data
        root = Path(self.root)
        built = (root / "app/static/index.html").is_file()
        if version == "editable" or built or not (root / ".ci/page").is_file():
            return
        if shutil.which("bash"):
            subprocess.run(["bash", root / ".ci/page"], check=True)  # noqa: S607 - the one on the PATH.
