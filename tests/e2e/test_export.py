"""A model leaves the service as a file and answers there as within; it comes back the same."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.compute.onnx_runtime import open_session
from models.weights import bundle
from tests.e2e.conftest import Service, png

LENET = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 8}}
IMAGES = [(f"{value}.png", png(value, 99)) for value in range(4)]


@pytest.fixture(scope="module")
def version(service: Service, blocks: bytes) -> dict[str, Any]:
    """The model that leaves."""
    service.ended(service.finetune(blocks, name="leaving", **LENET))
    return dict(service.http.get("/models/leaving/versions/1").json())


def exported(service: Service, version: dict[str, Any], form: str) -> dict[str, Any]:
    """Order an export, and return it once it is there."""
    ordered = service.http.post(version["links"]["exports"], json={"format": form})
    assert ordered.status_code == 202, ordered.text
    again = service.http.post(version["links"]["exports"], json={"format": form})
    assert again.json()["id"] == ordered.json()["id"]
    job = service.ended(ordered.json()["id"])
    assert job["state"] == "succeeded", job
    return dict(service.http.get(job["links"]["export"]).json())


def taken_in(service: Service, *arguments: str) -> dict[str, Any]:
    """Run `topwork models import` and return the version that it made."""
    command = [sys.executable, "-m", "app.cli", "models", "import", *arguments, "--json"]
    done = subprocess.run(
        command, env={**os.environ, "TOPWORK_URL": service.url}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def served(service: Service, model: str) -> list[dict[str, Any]]:
    results = service.predict(*IMAGES, model=model).json()["results"]
    return [{name: one[name] for name in ("label", "confidence", "predictions")} for one in results]


def test_an_exported_model_answers_as_the_service(
    service: Service, version: dict[str, Any]
) -> None:
    export = exported(service, version, "onnx")
    report = export["report"]["held_out"]
    assert report["images"] == report["alike"] > 0
    assert report["max_difference"] <= 1e-5
    file = service.http.get(export["links"]["files/model.onnx"])
    assert len(file.content) == export["files"]["model.onnx"]["size"]

    session = open_session(file.content)
    words = session.get_modelmeta().custom_metadata_map
    assert words["digest"] == version["digest"]
    assert json.loads(words["classes"]) == version["classes"]
    for (_, image), answer in zip(IMAGES, served(service, "leaving"), strict=True):
        rgb = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        probabilities, label = session.run(["probabilities", "label"], {"image": rgb})
        assert label == answer["label"]
        assert abs(float(probabilities.max()) - answer["confidence"]) <= 1e-5


@pytest.mark.slow
def test_a_model_comes_back_under_another_name(
    service: Service, version: dict[str, Any], tmp_path: Path
) -> None:
    """As the bundle that left, as a folder, and as another program would have saved it."""
    export = exported(service, version, "bundle")
    file, folder = tmp_path / "model.zip", tmp_path / "model"
    file.write_bytes(service.http.get(export["links"]["files/model.zip"]).content)
    made = taken_in(service, "back", str(file))
    assert (made["digest"], made["classes"]) == (version["digest"], version["classes"])
    assert served(service, "back") == served(service, "leaving")
    assert taken_in(service, "back", str(file))["number"] == made["number"]

    folder.mkdir()
    bundle.unpack(file, folder)
    assert taken_in(service, "unpacked", str(folder))["digest"] == version["digest"]
    torch.save(load_file(folder / bundle.WEIGHTS), tmp_path / "best.pth")
    classes = ",".join(version["classes"])
    told = "--architecture", "LeNet", "--classes", classes
    assert taken_in(service, "foreign", str(tmp_path / "best.pth"), *told)["number"] == 1
    labels = [one["label"] for one in served(service, "leaving")]
    assert [one["label"] for one in served(service, "foreign")] == labels
