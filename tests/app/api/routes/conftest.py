"""An api of the test's own, spoken to in process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.main import create_app
from core.store.resources import Resources
from core.store.tables import Dataset
from core.system.settings import Settings
from tests.app.apiclient import Work, local_client, publish_dataset


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Unless told otherwise structlog paints tracebacks for seconds."""
    structlog.configure(
        [structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client on this machine, with the app's lifespan running."""
    with local_client(app) as opened:
        yield opened


@pytest.fixture
def work(resources: Resources) -> Work:
    return Work(resources)


@pytest.fixture
def dataset(resources: Resources, tmp_path: Path) -> Dataset:
    """A dataset with one version of two classes, its images in storage."""
    return publish_dataset(resources, tmp_path / "pets")
