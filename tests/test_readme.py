"""The README's tree is the tree, and its two commands are targets of the Makefile."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = ("app", "core", "models", "topwork", "worker")
DEEPEST = 3  # package/room/__init__.py: what a room is divided into is for those who are in it.


def tree() -> dict[str, str]:
    """Return path -> description of the tree; two spaces are one level."""
    block = README.split("## The tree\n")[1].split("```")[1].removeprefix("text")
    paths: dict[str, str] = {}
    folders: list[str] = []
    for line in filter(None, block.splitlines()):
        found = re.fullmatch(r"( *)(\S+)\s{2,}(\S.*)", line)
        assert found, line
        indent, name, text = found.groups()
        folders = folders[: len(indent) // 2]
        path = "".join(folders) + name
        assert path not in paths, path
        paths[path] = text
        if name.endswith("/"):
            folders.append(name)
    return paths


def test_every_path_of_the_tree_exists() -> None:
    for path in tree():
        assert (ROOT / path).exists(), path
        assert (ROOT / path).is_dir() == path.endswith("/"), path


def test_every_room_has_its_line_and_the_tree_fits_one_screen() -> None:
    rooms = {
        f"{path.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
        if "migrations" not in path.parts and len(path.relative_to(ROOT).parts) <= DEEPEST
    }
    assert rooms <= tree().keys()
    assert len(tree()) <= 40


def test_the_two_commands_are_targets() -> None:
    commands = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)
    assert commands == ["demo", "up"]
    for name in commands:
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
