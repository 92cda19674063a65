"""An ingestion inside this process, for tests of what becomes of an archive."""

from pathlib import Path

import pytest

from core.ingest.__main__ import ingest
from core.system.run_dir import RunDir
from tests.core.ingested import Ingest, Outcome, outcome, prepare
from topwork.errors import TopworkError


@pytest.fixture
def run(tmp_path: Path) -> Ingest:
    def ingested(
        data: bytes | Path,
        split: object = None,
        limits: object = None,
        name: str = "run",
        **more: object,
    ) -> Outcome:
        prepare(tmp_path / name, data, split, limits, **more)
        run_dir = RunDir(tmp_path / name)
        try:
            ingest(run_dir)
        except TopworkError as error:
            return Outcome(run_dir.path, error=error.to_dict())
        finally:
            run_dir.events.close()
        return outcome(run_dir.path)

    return ingested
