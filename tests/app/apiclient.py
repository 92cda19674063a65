"""What tests of the api send, and what they put into its database and storage."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from PIL import Image
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.api.main import ApiServer
from core.domain import datasets, jobs, registry
from core.ingest.manifest import Line, Lost, encode, examine, json_line, summarise
from core.ingest.shards import ShardWriter
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import Dataset, ModelVersion
from tests.claims import claim_best
from tests.waiting import wait_for

HERE = ("127.0.0.1", 50000)


def local_client(app: FastAPI, **options: Any) -> TestClient:
    """A client on this machine, speaking to 127.0.0.1."""
    options = {"base_url": "http://127.0.0.1", "client": HERE, **options}
    return TestClient(app, **options)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve over a real socket, from a thread; yield the address."""
    server = ApiServer(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def png(colour: tuple[int, int, int] = (200, 30, 30), side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def two_classes() -> dict[str, bytes]:
    return {
        f"{name}/{number}.png": png((number * 20, 10, shade))
        for name, shade in (("cat", 10), ("dog", 200))
        for number in range(5)
    }


def zipped(files: dict[str, bytes] | None = None) -> bytes:
    """A zip of two classes with five images each, or of these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (files or two_classes()).items():
            archive.writestr(zipfile.ZipInfo(name), data)  # Always dated 1980.
    return file.getvalue()


def config(**fields: Any) -> dict[str, str]:
    """The form field `config` of POST /finetune."""
    return {"config": json.dumps({"architecture": "lenet", **fields})}


def publish_dataset(
    resources: Resources,
    folder: Path,
    name: str = "pets",
    caller: Caller | None = None,
    lost: Lost | None = None,
) -> Dataset:
    """Store twelve images as the first version of a dataset, as an ingest job would."""
    folder.mkdir()
    writer = ShardWriter(folder / "shards")
    lines = [_line(writer, index) for index in range(12)]
    writer.close()
    (shard,) = writer.names
    for line in lines:
        line["shard"] = shard
    storage = resources.storage
    storage.put_file(f"shards/{shard}.tar", folder / "shards" / f"{shard}.tar")
    summary = summarise(lines, examine(lines, {}, [], {}), lost=lost)
    with resources.database.write(caller) as session:
        dataset = datasets.create(session, name=name, upload=None, metadata={})
        prefix = f"datasets/{dataset.id}/1/1"
        datasets.publish(
            session,
            dataset,
            number=1,
            digest=summary["digest"],
            prefix=prefix,
            summary=summary,
            shards=[shard],
        )
    row = {"path": "x.txt", "status": "skipped", "code": "not_an_image", "message": "No."}
    storage.put_bytes(f"{prefix}/manifest.jsonl", encode(lines))
    storage.put_bytes(f"{prefix}/report.jsonl", json_line(row).encode() * 3)
    return dataset


def _line(writer: ShardWriter, index: int) -> Line:
    data = png((index * 20, 40, 90), side=16)
    sha256 = hashlib.sha256(data).hexdigest()
    address = writer.add(sha256, "png", data)
    name = "cat" if index % 2 else "dog"
    return {
        "sha256": sha256,
        "path": f"{name}/{index:02}.png",
        "class": name,
        "split": "val" if index < 4 else "train",
        "width": 16,
        "height": 16,
        "shard": "",
        "offset": address.offset,
        "length": address.length,
        "findings": ["exif_rotated"] if index == 5 else [],
    }


def publish_model(
    resources: Resources,
    name: str = "pets",
    caller: Caller | None = None,
    said: str = '{"label":"cat"}\n{"label":"dog"}\n',
    more: Mapping[str, Any] | None = None,
    suspects: str | None = None,
) -> ModelVersion:
    """Store a version of a model as a fine-tuning job would; its weights are no weights.

    `said` is what its evaluation said about each image, by default in an early trainer's words.
    Its card has `more`; an early trainer looked for no `suspects`.

    `val` was measured by today's trainer, `test` by one that did not calibrate.
    """
    trust = {"ece": 0.12, "log_loss": 0.5, "bins": []}
    evaluation = {
        "val": {
            "accuracy": 0.9,
            "ece": 0.034,
            "macro": {"f1": 0.87},
            "confusion": {"classes": ["cat", "dog"], "matrix": [[3, 1], [0, 4]]},
            "calibration": {"temperature": 1.75, "before": trust, "after": {**trust, "ece": 0.034}},
            "intervals": {"accuracy": {"low": 0.625, "high": 0.975}, "macro_f1": None},
            "errors": [{"path": "cat/1.png", "true": "cat", "predicted": "dog", "loss": 2.5}],
        },
        "test": {"accuracy": 0.8, "confusion": {"classes": ["cat", "dog"], "matrix": None}},
    }
    weights = b"w" * 3000
    card = {
        "architecture": "lenet",
        "classes": ["cat", "dog"],
        "preprocess": {"crop": 32, "revision": 2},
        "files": {"weights.safetensors": file_facts(weights)},
        "metrics": {"val_accuracy": 0.9},
        "calibration": {"temperature": 1.75, "ece_before": 0.12, "ece_after": 0.034, "images": 60},
        **(more or {}),
    }
    contents = {
        "weights.safetensors": weights,
        "card.json": json.dumps(card).encode(),
        "evaluation.json": json.dumps(evaluation).encode(),
        "predictions.jsonl": said.encode(),
        **({} if suspects is None else {"suspects.jsonl": suspects.encode()}),
    }
    files = {file: file_facts(data) for file, data in contents.items()}
    with resources.database.write(caller) as session:
        job = jobs.submit(session, kind="finetune", config={"name": name})
        prefix = f"models/{job.id}/1"
        digest = files["weights.safetensors"]["sha256"]
        version = registry.publish(
            session, name=name, job_id=job.id, digest=digest, prefix=prefix, files=files, card=card
        )
        jobs.cancel(session, job.id)
    for file, data in contents.items():
        resources.storage.put_bytes(f"{prefix}/{file}", data)
    return version


def file_facts(data: bytes) -> dict[str, Any]:
    """Return what rows say about a file."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def answers(labels: str, confidence: float = 0.9) -> str:
    """What an evaluation says about images that are by turns a cat and a dog.

    One letter for each image is what it is taken for: `c` a cat, `d` a dog.
    """
    lines = [
        {
            "sha256": f"{number:064}",
            "path": f"{number}.png",
            "split": "test",
            "class": "dog" if number % 2 else "cat",
            "label": {"c": "cat", "d": "dog"}[letter],
            "confidence": confidence,
        }
        for number, letter in enumerate(labels)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


class Work:
    """Does to job rows what users and workers do."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._seconds = resources.settings.lease_seconds

    def submit(self, **options: Any) -> str:
        with self._database.write() as session:
            return jobs.submit(session, **{"kind": "finetune", "config": {}, **options}).id

    def claim(self) -> tuple[str, int]:
        with self._database.write() as session:
            job = claim_best(session, "test:1", self._seconds)
            assert job is not None
            return job.id, job.fence

    def do(self, verb: Callable[..., Any], job: tuple[str, int], *details: Any) -> None:
        with self._database.write() as session:
            verb(session, *job, *details)

    def look(self) -> AbstractContextManager[Session]:
        return self._database.read()


def suspected(*rows: tuple[str, str, str, float, str | None]) -> str:
    """The `suspects.jsonl` of (sha256, class, finding, score, likely class)."""
    keys = ("sha256", "class", "finding", "score", "likely")
    lines = (dict(zip(keys, row, strict=True)) | {"path": "as.png"} for row in rows)
    return "".join(json.dumps(line) + "\n" for line in lines)
