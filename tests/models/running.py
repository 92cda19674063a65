"""Run the trainer in this process and read what it published."""

import json
from pathlib import Path
from typing import Any

from core.system.run_dir import supervise
from models.train import train


def go(run_dir: Path) -> int:
    """Do the run, as far as it comes; return its exit status."""
    return supervise(train, [str(run_dir)], resumable=True)


def read(run_dir: Path, name: str) -> Any:
    """Return a JSON file of the result."""
    return json.loads((run_dir / "result" / name).read_text())


def outcome(run_dir: Path) -> tuple[Any, Any]:
    """Return what must not depend on how often a run was interrupted."""
    card = read(run_dir, "card.json")
    assert card["exact"] == {"value": True, "reason": []}
    return card["files"], read(run_dir, "history.json")
