"""The same main job with Postgres, S3 and a broker of its own instead of the built-in ones."""

from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from core.store.db import Database
from core.store.object_store import Storage
from core.store.tables import ModelVersion
from tests.e2e.conftest import png, running


def test_three_urls_are_all_it_takes(
    tmp_path: Path, postgres: str, s3: str, valkey: str, blocks: bytes
) -> None:
    urls: dict[str, Any] = {
        "TOPWORK_DATABASE_URL": postgres,
        "TOPWORK_STORAGE_URL": s3,
        "TOPWORK_BROKER_URL": valkey,
    }
    with running(tmp_path / "data", **urls) as service:
        job_id = service.finetune(
            blocks, name="blocks", architecture="lenet", hyperparameters={"epochs": 8}
        )
        job = service.ended(job_id)
        assert job["state"] == "succeeded", job
        answer = service.predict(("ne.png", png(1, 99)), model="blocks")
        assert answer.json()["results"][0]["label"] == "ne"
    assert not (tmp_path / "data" / "topwork.db").exists()
    assert not (tmp_path / "data" / "objects").exists()
    assert not (tmp_path / "data" / "broker").exists()
    database = Database(postgres)
    with database.read() as session:
        versions = session.execute(select(func.count()).select_from(ModelVersion)).scalar_one()
        prefix = session.execute(select(ModelVersion.prefix)).scalar_one()
    database.close()
    assert versions == 1
    assert f"{prefix}/weights.safetensors" in Storage(s3).list(prefix)
