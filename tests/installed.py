"""Topwork as somebody has it who installed the wheel: no checkout, no torch, `topwork` in bin."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "core", "models", "topwork", "worker")
LEFT_OUT = ("torch", "topwork", "__editable__", "pip")
SCRIPT = "#!{python}\nimport sys\nfrom app.cli import main\nsys.exit(main())\n"


class Installed:
    """An environment of its own, with the packages of this one but torch.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        made = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(made, check=True)
        self.bin = folder / "bin"
        (site,) = folder.glob("lib/python*/site-packages")
        for entry in _packages().iterdir():
            if not entry.name.startswith(LEFT_OUT) and entry.suffix != ".pth":
                (site / entry.name).symlink_to(entry)
        for name in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, site / name, ignore=ignored)
        facts = site / "topwork-0.1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.4\nName: topwork\nVersion: 0.1.0\n")
        script = self.bin / "topwork"
        script.write_text(SCRIPT.format(python=self.bin / "python"))
        script.chmod(0o755)

    def run(self, *words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of its bin folder."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            cwd=cwd,
            env=env | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def _packages() -> Path:
    found = importlib.util.find_spec("pydantic")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parents[1]
