"""The main job end to end: folder in, job followed, labels out; on made and on real images."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service, png, running
from tests.waiting import wait_for

LENET = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 8}}


def test_a_folder_becomes_a_classifier(service: Service, blocks: bytes) -> None:
    job_id = service.finetune(blocks, name="blocks", **LENET)
    job = service.ended(job_id)
    assert job["state"] == "succeeded", job
    assert job["result"]["model"].startswith("blocks@")
    answer = service.predict(
        *((f"{name}.png", png(value, 99)) for value, name in enumerate(("nw", "ne", "sw", "se"))),
        model="blocks",
        top_k="2",
    )
    assert answer.status_code == 200, answer.text
    assert [item["label"] for item in answer.json()["results"]] == ["nw", "ne", "sw", "se"]
    assert all(len(item["predictions"]) == 2 for item in answer.json()["results"])


def asked(service: Service, images: list[tuple[str, bytes]], model: str) -> list[dict[str, Any]]:
    """Return what the service says about named images, eight in a request."""
    results = []
    for start in range(0, len(images), 8):
        answer = service.predict(*images[start : start + 8], model=model)
        assert answer.status_code == 200, answer.text
        results += answer.json()["results"]
    return results


def test_a_head_that_saw_the_validation_images_is_served_as_it_was_kept(
    service: Service, blocks: bytes
) -> None:
    """They judged a head that had not; what the published one says about them is kept beside."""
    first = service.ended(service.finetune(blocks, name="parent", **LENET))["result"]["model"]
    config = {"architecture": "lenet", "weights": f"model:{first}", "strategy": "head"}
    job = service.ended(service.finetune(blocks, name="grown", **config))
    assert job["state"] == "succeeded", job
    assert job["result"]["metrics"]["val"]["out_of_fold"]
    lines = service.http.get("/models/grown/versions/1/predictions").text.splitlines()
    own = [json.loads(line) for line in lines]
    with zipfile.ZipFile(io.BytesIO(blocks)) as images:
        named = [(line["path"], images.read(line["path"])) for line in own]
    answers = asked(service, named, "grown")
    assert [one["label"] for one in answers] == [line["served_label"] for line in own]
    assert [one["decision"] for one in answers] == [line["served_decision"] for line in own]
    sure = [line["served_confidence"] for line in own]
    assert [one["confidence"] for one in answers] == pytest.approx(sure, abs=1e-5)


def test_the_events_replay_what_the_job_says(service: Service, blocks: bytes) -> None:
    job_id = service.finetune(blocks, name="replayed", **LENET)
    service.ended(job_id)
    events = service.http.get(f"/jobs/{job_id}/events?limit=1000").json()["data"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    states = [event["data"]["state"] for event in events if event["kind"] == "state"]
    assert states == ["waiting", "queued", "running", "succeeded"]
    stream = service.http.get(
        f"/jobs/{job_id}/events",
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(len(events) - 2)},
    )
    replayed = [line for line in stream.text.splitlines() if line.startswith("id:")]
    assert [int(line.split(":")[1]) for line in replayed] == [len(events) - 1, len(events)]


def test_one_id_goes_through_every_log(service: Service, blocks: bytes) -> None:
    named = replace(service)
    named.http.headers["X-Request-Id"] = "ticket-7"
    with named.http:
        job = service.ended(named.finetune(blocks, name="traced", **LENET))
        answer = named.predict(("x.png", png(0, 99)), model="traced")
    assert job["request_id"] == answer.headers["X-Request-Id"] == "ticket-7"
    log = service.data_dir.parent / "data.log"

    def tells(event: str) -> bool:  # Lines pass through the supervisor on their way.
        return any(event in line and "ticket-7" in line for line in log.read_text().splitlines())

    for event in ('"request"', "job.started", "job.succeeded", "predicted", "model.loaded"):
        wait_for(partial(tells, event))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Service]:
    """A service that has the real MobileNet-v2 weights."""
    weights = tmp_path_factory.mktemp("weights")
    shutil.copy(shared / "weights" / "mobilenet_v2.safetensors", weights)
    data = tmp_path_factory.mktemp("real") / "data"
    with running(data, TOPWORK_WEIGHTS_DIR=str(weights)) as started:
        yield started


def test_real_photographs_reach_the_linear_probe(real: Service, shared: Path) -> None:
    archive = (shared / "data" / "hymenoptera.zip").read_bytes()
    job_id = real.finetune(archive, name="insects", architecture="mobilenet_v2", strategy="head")
    job = real.ended(job_id, 200)
    assert job["state"] == "succeeded", job
    assert job["result"]["metrics"]["val"]["accuracy"] >= 0.93
    lines = real.http.get("/models/insects/versions/1/predictions").text.splitlines()
    own = [json.loads(line) for line in lines]
    with zipfile.ZipFile(shared / "data" / "hymenoptera.zip") as images:
        named = [(line["path"], images.read(line["path"])) for line in own]
    answers = asked(real, named, "insects")
    assert [one["label"] for one in answers] == [line["label"] for line in own]
    sure = [line["confidence"] for line in own]
    assert [one["confidence"] for one in answers] == pytest.approx(sure, abs=1e-5)
    assert len(own) == 153
    calibration = real.http.get("/models/insects/versions/1/calibration").json()["calibration"]
    # For images that trained, heads answer that had not seen them.
    assert calibration["images"] == 398
    assert calibration["ceiling"] == pytest.approx(399 / 400)


def test_imagenet_answers_match_the_stock_preset(real: Service, shared: Path) -> None:
    first, fifth, total = 0, 0, 0
    with zipfile.ZipFile(shared / "data" / "imagenet200.zip") as images:
        names = images.namelist()
        for start in range(0, len(names), 8):
            batch = names[start : start + 8]
            named = [(name, images.read(name)) for name in batch]
            answer = real.predict(*named, model="mobilenet_v2", top_k="5")
            assert answer.status_code == 200, answer.text
            for name, item in zip(batch, answer.json()["results"], strict=True):
                indices = [entry["index"] for entry in item["predictions"]]
                truth = int(name.split("_")[0])
                first += indices[0] == truth
                fifth += truth in indices
                total += 1
    assert total == 200
    assert first / total >= 0.785
    assert fifth / total >= 0.945
