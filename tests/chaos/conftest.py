"""What the chaos tests share: a printed seed, repetitions, a line of measurements each.

CHAOS_SEED=n repeats a run, CHAOS_TIMES=n makes it so many times longer (0.25: shorter), and with
CHAOS_STRICT=1 a time beyond its goal is a failure.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.system.settings import Settings
from tests.invariants import broken_after_tidying
from tests.worker.conftest import bench, gate, make_bench  # noqa: F401 - fixtures.

SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
TIMES = float(os.environ.get("CHAOS_TIMES", "1"))
BEYOND = "BEYOND the goal"
STRICT = os.environ.get("CHAOS_STRICT") == "1"
Tell = Callable[[str], None]


def times(usual: int) -> int:
    """Return how often to repeat what `make chaos` repeats `usual` times."""
    return max(1, round(usual * TIMES))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Seeded chance, the same for the same test and CHAOS_SEED."""
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - not a secret.


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Put a line of measurements into the report, whether the test passes or not."""
    return lambda line: record_property("chaos", f"CHAOS {line}")


@pytest.fixture
def row(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Add a line to the table of networks, whether the test passes or not."""

    def add(name: str, parameters: int, seconds: float, peak: int, result: str) -> None:
        numbers = f"{parameters / 1e6:8.1f} M {seconds:8.1f} s {peak / 2**30:6.1f} GiB"
        record_property("network", f"{name:22}{numbers}  {result}")

    return add


def noted(terminalreporter: pytest.TerminalReporter, name: str) -> list[str]:
    """Return what the tests have recorded under a name."""
    return [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == name and report.when == "call"
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if networks := noted(terminalreporter, "network"):
        terminalreporter.section(f"{len(networks)} networks: parameters, seconds, memory, result")
        terminalreporter.write_line("\n".join(sorted(networks)))
    lines = noted(terminalreporter, "chaos")
    if not lines:
        return
    late = [line for line in lines if BEYOND in line]
    terminalreporter.section(f"chaos, CHAOS_SEED={SEED} CHAOS_TIMES={TIMES:g}")
    terminalreporter.write_line("\n".join(line for line in lines if line not in late))
    if late:
        terminalreporter.section(f"{len(late)} slower than the goal, CHAOS_STRICT=1 enforces it")
        terminalreporter.write_line("\n".join(late))


@pytest.fixture(params=["sqlite", "postgres"])
def either_database(
    request: pytest.FixtureRequest, settings: Settings
) -> tuple[str, dict[str, str]]:
    """The name of a backend and the environment that leads to an empty, migrated database."""
    environment = {"TOPWORK_DATA_DIR": str(settings.data_dir), "TOPWORK_OFFLINE": "1"}
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
        upgrade(url)
        environment["TOPWORK_DATABASE_URL"] = url
    return request.param, environment


@contextmanager
def opened(environment: dict[str, str]) -> Iterator[Resources]:
    """Open what the environment names, and check the invariants at the end."""
    names: dict[str, Any] = {
        key.removeprefix("TOPWORK_").lower(): value for key, value in environment.items()
    }
    with open_resources(Settings(**names)) as resources:
        yield resources
        assert broken_after_tidying(resources) == []


@pytest.fixture
def record(tell: Tell) -> Callable[[str, float, float], None]:
    """Compare a measured time with its goal; beyond it the line says so.

    A shared machine makes times meaningless, so a goal is only enforced with CHAOS_STRICT=1.
    """

    def compare(name: str, seconds: float, goal: float) -> None:
        if seconds > goal:
            tell(f"{name}: {seconds:.3f} s, {BEYOND} of {goal:g} s")
        assert not STRICT or seconds <= goal

    return compare
