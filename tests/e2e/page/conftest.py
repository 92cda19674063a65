"""Tests of the page in a real Chromium; `make test-page` builds it first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.page.browser import tab_on


@pytest.fixture
def troubles() -> list[str]:
    """What goes wrong in the tab; a test takes out what it has caused itself."""
    return []


@pytest.fixture
def tab(service: Service, troubles: list[str]) -> Iterator[Any]:
    """A tab on the page of the shared service, in which nothing may go wrong."""
    with tab_on(service.url, troubles) as page:
        yield page
    assert troubles == []


@dataclass(frozen=True)
class Trained:
    """A model of two versions, the data set that both have seen, and the job of the second."""

    model: str
    dataset: str
    job: str


@pytest.fixture(scope="session")
def trained(service: Service, blocks: bytes) -> Trained:
    """Train two versions on the same images."""
    config = {"architecture": "lenet", "name": "looks", "hyperparameters": {"epochs": 2}}
    first = service.ended(service.finetune(blocks, **config))
    body = {**config, "dataset": first["dataset"], "seed": 2}
    second = service.ended(service.http.post("/finetune", json=body).json()["id"])
    assert [job["state"] for job in (first, second)] == ["succeeded", "succeeded"]
    return Trained("looks", first["dataset"], second["id"])
