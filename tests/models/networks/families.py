"""The networks on which `make test` tries what `make test-slow` tries on all of them."""

from typing import Any

import pytest

from models.planning import catalogue

LEAST_SIDE = 32  # Below it some random networks give numbers that are not finite.


def side_of(facts: catalogue.Architecture) -> int:
    """Return the least side of an image that the network takes and that tells something."""
    return facts.input_size if facts.fixed_size else max(facts.min_size, LEAST_SIDE)


def gigaops_of(facts: catalogue.Architecture) -> float:
    return facts.gigaops * (side_of(facts) / facts.input_size) ** 2


def cheapest_of_each_family() -> list[str]:
    """Return the names that cost least in bytes written and operations done, cheapest first."""
    found: dict[str, tuple[float, str]] = {}
    for facts in map(catalogue.get, catalogue.names()):
        mine = facts.parameters / 1e7 + gigaops_of(facts), facts.name
        found[facts.family] = min(found.get(facts.family, mine), mine)
    return [name for _, name in sorted(found.values())]


FAMILIES = cheapest_of_each_family()


def all_of_which_others_are_slow() -> list[Any]:
    """Return every name, marked where another network of its family is tried."""
    return [
        pytest.param(name, marks=[] if name in FAMILIES else [pytest.mark.slow])
        for name in catalogue.names()
    ]
