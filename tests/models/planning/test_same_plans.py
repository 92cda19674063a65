"""Plans keep their meaning: equal, field by field, to those that were written down."""

import json

import pytest

from models.planning import catalogue
from tests.models.planning.configurations import FILE, configurations, digest, lines

WRITTEN = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WRITTEN["outcomes"])
def test_some_plans_word_by_word(name: str) -> None:
    """They show in what a plan differs; the digests below only that one does."""
    outcomes: list[list[str]] = WRITTEN["outcomes"][name]
    for asked, outcome in zip(configurations(name, len(outcomes)), outcomes, strict=True):
        assert lines(asked.outcome()) == outcome, asked


@pytest.mark.parametrize("name", catalogue.names())
def test_all_plans_by_their_digests(name: str) -> None:
    digests: list[str] = WRITTEN["digests"][name].split()
    for asked, outcome in zip(configurations(name, len(digests)), digests, strict=True):
        assert digest(asked.outcome()) == outcome, asked
