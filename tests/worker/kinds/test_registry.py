"""The registry of kinds: each has its file, its phases are those that its process tells."""

import re
from pathlib import Path

import pytest

from core.domain.products import PLACES
from core.ops import garbage
from topwork.kinds import JobKind, Phase, Product
from worker.kinds.registry import WORKS

ROOT = Path(__file__).resolve().parents[3]
SHARED = {"__init__", "kind", "registry"}
ANY = {Phase.PREPARING, Phase.PUBLISHING}  # A claim begins each job, a worker ends it.
TOLD = re.compile(r'\.phase\((?:"(\w+)"|Phase\.(\w+))\)')


def test_each_kind_has_exactly_one_file() -> None:
    files = {path.stem for path in (ROOT / "worker/kinds").glob("*.py")} - SHARED
    assert files == set(JobKind) == set(WORKS)


@pytest.mark.parametrize("kind", JobKind)
def test_a_kind_has_the_phases_that_its_process_tells(kind: JobKind) -> None:
    path = ROOT.joinpath(*WORKS[kind].module.split("."))
    entry = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    package = WORKS[kind].module.partition(".")[0]
    imported = re.findall(rf"^from ({package}[\w.]*) import", entry.read_text(), re.MULTILINE)
    modules = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in imported)
    texts = [path.read_text() for path in (entry, *modules) if path.is_file()]
    told = [Phase((plain or member).lower()) for plain, member in TOLD.findall("".join(texts))]
    assert [phase for phase in told if phase not in ANY] == list(kind.phases)


def test_every_phase_and_every_product_is_some_kinds() -> None:
    assert {phase for kind in JobKind for phase in kind.phases} | ANY == set(Phase)
    assert {kind.makes for kind in JobKind} == set(Product)


def test_what_a_kind_makes_has_a_place_and_a_rule_that_keeps_it() -> None:
    assert set(PLACES) == set(Product)
    assert {place.folder for place in PLACES.values()} <= garbage.RULES.keys()
