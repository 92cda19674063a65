"""The house rules that no linter knows: short files, thin routes and tasks, reasons for silence."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "core", "models", "topwork", "worker")
FOLDERS = (*PACKAGES, "bench", "docs", "tests")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
NAMELESS = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
SILENCE = re.compile(r"#\s*(?:noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\])(?P<reason>.*)")
BARE = re.compile(r"#\s*(?:noqa(?!:)|type: ignore(?!\[))")
MACHINE = re.compile(r"/(?:home|root|work|Users)/(?!me\b)[A-Za-z0-9_.-]+")
MOST_LINES = 400
MOST_THIN_LINES = 15


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_named_for_a_thing_and_silent_only_with_a_reason(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    assert path.stem not in NAMELESS
    for line in text.splitlines():
        assert not BARE.search(line), line
        silenced = SILENCE.search(line) if path.relative_to(ROOT).parts[0] in PACKAGES else None
        assert silenced is None or re.search(r"\w{3}", silenced["reason"]), line


def test_most_files_fit_on_a_screen_or_two() -> None:
    lengths = sorted(
        length
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (length := path.read_text().count("\n"))
    )
    assert lengths[len(lengths) // 2] <= 110


def thin(path: Path, decorators: set[str]) -> Iterator[tuple[str, int]]:
    """Yield the functions under these decorators and the lines of their bodies."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        called = {
            ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list
        }
        if {name.split(".")[-1] for name in called} & decorators:
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield f"{path.name}:{node.name}", (node.end_lineno or 0) - body[0].lineno + 1


def test_routes_and_tasks_are_thin() -> None:
    verbs = {"get", "post", "put", "patch", "delete", "head", "options"}
    routes = [f for path in (ROOT / "app/api/routes").glob("*.py") for f in thin(path, verbs)]
    tasks = list(thin(ROOT / "worker/tasks.py", {"task"}))
    assert len(routes) > 20
    assert tasks
    assert not [name for name, lines in routes + tasks if lines > MOST_THIN_LINES]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    kinds = ["*.py", "*.md", "*.toml", "*.yml", "Makefile", "Dockerfile", ".ci"]
    listing = [git, "ls-files", *kinds]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.splitlines():
        if name != "tests/test_house.py":
            assert not MACHINE.search((ROOT / name).read_text()), name


# What one function does for all: a word of it, and the one file in which it may stand.
ONCE = {
    r"flock\(": "core/system/locks.py",
    r"PDEATHSIG": "core/system/tether.py",
}


@pytest.mark.parametrize("word", ONCE)
def test_what_one_function_does_for_all_stands_there_alone(word: str) -> None:
    places = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(word, path.read_text())
    }
    assert places == {ONCE[word]}
