"""The documentation says what the code does: generated pages are current, links lead somewhere."""

import re
import runpy
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import program
from core.store.migrate import upgrade

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
DECISIONS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))
SOURCES = [
    path
    for package in ("app", "core", "models", "topwork", "worker")
    for path in (ROOT / package).rglob("*.py")
]
CODE = re.compile(r"""^    (?:status, code = \d+, |code = )"(\w+)"$""", re.MULTILINE)
ROOMS = "app|core|models|topwork|worker"
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


@pytest.mark.parametrize(
    "page",
    [
        "docs/settings.md",
        "docs/errors.md",
        "docs/cli.md",
        "docs/api.md",
        "docs/architecture.md",
        "docs/decisions/README.md",
        "README.md",
        "llms.txt",
    ],
)
def test_generated_page_is_current(page: str) -> None:
    pages = runpy.run_path(str(ROOT / "docs/reference.py"))["PAGES"]
    assert (ROOT / page).read_text() == pages[page](), "run `make format`"


def test_every_error_code_is_explained() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    defined = {code for path in SOURCES for code in CODE.findall(path.read_text())}
    assert len(defined) > 30
    assert defined <= listed


def test_pages_that_code_names_exist() -> None:
    named = {
        page for path in SOURCES for page in re.findall(r"docs/[\w/.-]+\.md", path.read_text())
    }
    assert len(named) > 2
    assert [page for page in named if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, _anchor in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.name[:4])
def test_every_decision_has_a_title_a_date_a_choice_and_a_reason(page: Path) -> None:
    text = page.read_text()
    title = re.match(r"# (\S.{4,79})\n\nDate: 20\d\d-\d\d-\d\d\. Area: [^.\n]+\.\n\n", text)
    assert title
    slug = re.sub(r"[^a-z0-9]+", "-", title[1].lower()).strip("-")
    assert page.name[5:] == f"{slug}.md"
    assert re.findall(r"^\*\*(Choice|Reason)\.\*\* ", text, re.MULTILINE) == ["Choice", "Reason"]


def test_decisions_are_numbered_without_gaps_in_the_order_of_their_dates() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    days = [page.read_text().splitlines()[2][:16] for page in DECISIONS]
    assert len(days) > 80
    assert days == sorted(days)


@pytest.mark.parametrize(
    "page",
    [ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md", *DECISIONS],
    ids=lambda path: path.stem[:16],
)
def test_named_files_and_modules_exist(page: Path) -> None:
    code = "\n".join(re.findall(r"`([^`\n]+)`", page.read_text()))
    for path in re.findall(rf"(?<![\w./-])(?:{ROOMS}|bench|docs|tests)/[\w/.-]*", code):
        is_pattern = re.search(r"[A-Z]{3}", path) is not None and not path.endswith(".md")
        assert is_pattern or (ROOT / path).exists(), path
    for name in re.findall(rf"(?<![\w./-])(?:{ROOMS})(?:\.[A-Za-z_]\w*)+", code):
        assert name == "topwork.db" or is_importable(name), name


def test_symptoms_lead_to_folders_of_code_and_their_tests() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (.+) \| `(\S+/)` \| `(\S+)` \| `(tests/\S*)` \|$", page, re.MULTILINE)
    symptoms, folders, _, _ = zip(*rows, strict=True)
    assert len(set(symptoms)) == len(rows) > 30
    for _, folder, first, tests in rows:
        assert (ROOT / folder / first).is_file(), first
        assert any((ROOT / tests).glob("test_*.py")), tests
    packages = [path.parent for name in ROOMS.split("|") for path in (ROOT / name).rglob("*.py")]
    rooms = {f"{path.relative_to(ROOT)}/" for path in packages if "migrations" not in path.parts}
    listed = tuple(folders)
    assert [room for room in rooms if room.count("/") > 1 and not room.startswith(listed)] == []


def is_importable(name: str) -> bool:
    """Tell whether a dotted name is a folder, a module, or something that a module defines."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, defined = path.parent.with_suffix(".py"), re.compile(rf"\b{path.name}\b")
    return module.is_file() and defined.search(module.read_text()) is not None


def test_make_targets_are_few_described_and_as_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    described = re.findall(r"^([a-z-]+):.*  ## ", makefile, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert described == phony.split()
    assert len(set(described) - {"help"}) <= 14
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text()))
        assert named <= set(described), page


def test_the_backup_that_is_documented_can_be_restored(tmp_path: Path) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    lines = re.findall(r"^topwork ((?:backup|restore) [^#\n]*)", page, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["backup", "restore"]
    old = {"TOPWORK_DATA_DIR": str(tmp_path / "old")}
    upgrade(f"sqlite:///{tmp_path}/old/topwork.db")
    for line in lines:
        words = re.sub(r" /(backups|srv)", rf" {tmp_path}/\1", line).split()
        Path(words[1]).parent.mkdir(exist_ok=True)
        told = CliRunner().invoke(program, words, env=old)
        assert told.exit_code == 0, told.output
    copy = sqlite3.connect(tmp_path / "srv/topwork/topwork.db")
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert copy.execute("SELECT count(*) FROM job").fetchone() == (0,)
    copy.close()


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs/promises.md").read_text()
    named = re.findall(r"`([\w/]*test_\w+\.py)`", page)
    assert len(named) > 20
    for name in named:
        path = name if "/" in name else f"tests/chaos/{name}"
        assert (ROOT / path).is_file(), name
