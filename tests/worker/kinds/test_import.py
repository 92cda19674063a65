"""Models from elsewhere through a real worker: a bundle in, a model version out."""

import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from core.domain import jobs, registry
from core.ops import garbage
from models.weights import bundle
from tests.app.trained import store_model
from tests.waiting import wait_for
from tests.worker.conftest import Bench


def order(bench: Bench, content: bytes, name: str = "insects") -> str:
    """Queue what POST /models/import queues."""
    key = f"uploads/{secrets.token_hex(4)}"
    bench.resources.storage.put_bytes(key, content)
    digest = hashlib.sha256(content).hexdigest()
    config = {"name": name, "upload": key, "bytes": len(content), "sha256": digest}
    with bench.resources.database.write() as session:
        return jobs.submit(session, kind="import", config=config).id


def packed(bench: Bench, folder: Path, **changes: Any) -> bytes:
    """The bundle of a LeNet with random weights."""
    store_model(
        bench.resources.storage,
        folder,
        head={"layers": ["classifier.2"], "auxiliary": []},
        **changes,
    )
    target = folder / "model.zip"
    bundle.pack(target, (folder / bundle.CARD).read_bytes(), folder / bundle.WEIGHTS)
    return target.read_bytes()


def test_a_bundle_becomes_a_version_and_goes(bench: Bench, tmp_path: Path) -> None:
    bench.worker(module="worker")
    content = packed(bench, tmp_path / "model")
    job = bench.reaches(order(bench, content), "succeeded", "failed", timeout=120)
    assert job.error is None
    with bench.resources.database.read() as session:
        version = registry.version(session, "insects", 1)
    assert version.job_id == job.id
    card = json.loads((tmp_path / "model" / bundle.CARD).read_text())
    assert version.digest == card["files"][bundle.WEIGHTS]["sha256"]
    assert version.card["classes"] == card["classes"]
    wait_for(lambda: not bench.resources.storage.list("uploads"))


@pytest.mark.slow
def test_a_refused_one_says_why_and_publishes_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.worker(module="worker")
    spoiled = packed(bench, tmp_path / "model", classes=["ant", "b\u0000e", "cicada"])
    cases = {
        b"PK\x03\x04 and no more, so that the record at its end is not one": "zip",
        spoiled: "name",
    }
    for content, word in cases.items():
        ordered = order(bench, content)
        job = bench.reaches(ordered, "succeeded", "failed", timeout=120)
        assert job.state == "failed"
        assert job.error is not None
        assert (job.error["code"], word in job.error["message"]) == ("bundle_invalid", True)
        assert bench.resources.storage.exists(job.config["upload"])  # A retry needs it.
        with bench.resources.database.write() as session:
            keys = jobs.delete(session, ordered)
        garbage.discard(bench.resources, keys)
        assert not bench.resources.storage.exists(job.config["upload"])
