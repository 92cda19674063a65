"""No message names a command by hand: `command_names` knows how this installation is called."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "core", "models", "worker")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
COMMANDS = (
    "up|demo|doctor|backup|restore|train|predict|datasets|jobs|models|keys|audit|weights|openapi"
)
COMMAND = re.compile(rf"\btopwork ({COMMANDS})\b|\bpip3? install\b|python3? (-P )?-m\b")
# Help and descriptions tell what a command does; they are no advice to run one.
TOLD_ABOUT = {"help", "description", "prog"}


def told_about(tree: ast.AST) -> set[int]:
    """Return the nodes of docstrings, helps and descriptions."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.append(node)
        if isinstance(node, ast.keyword) and node.arg in TOLD_ABOUT:
            found.append(node.value)
    return {id(below) for node in found for below in ast.walk(node)}


def by_hand(source: str) -> Iterator[str]:
    """Yield the texts that name a command."""
    tree = ast.parse(source)
    quiet = told_about(tree)
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in quiet else None
        if isinstance(text, str) and COMMAND.search(text):
            yield text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_names_a_command_by_hand(path: Path) -> None:
    known = {"core/system/run_dir.py"}  # The usage of whatever module was started.
    if str(path.relative_to(ROOT)) not in known:
        assert list(by_hand(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "raise Error(hint='Run `topwork doctor` first.')",
        "say(f'Try it: topwork predict {model} IMAGE')",
        "FIXES = {'torch': \"pip install 'topwork[torch]'\"}",
        "fix = 'Run `python -m core.store.migrate`.'",
    ],
)
def test_one_is_found(line: str) -> None:
    assert list(by_hand(line))
