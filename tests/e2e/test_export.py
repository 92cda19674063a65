"""A model leaves the service as a file and answers there as it did within."""

import io
import json

import numpy as np
from PIL import Image

from models.export.runtime import open_session
from tests.e2e.conftest import Service, png

LENET = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 8}}


def test_an_exported_model_answers_as_the_service(service: Service, blocks: bytes) -> None:
    job = service.ended(service.finetune(blocks, name="leaving", **LENET))
    version = service.http.get("/models/leaving/versions/1").json()
    exports = version["links"]["exports"]
    ordered = service.http.post(exports, json={"format": "onnx"})
    assert ordered.status_code == 202, ordered.text
    again = service.http.post(exports, json={"format": "onnx"})
    assert again.json()["id"] == ordered.json()["id"]
    job = service.ended(ordered.json()["id"])
    assert job["state"] == "succeeded", job
    export = service.http.get(job["links"]["export"]).json()
    report = export["report"]["held_out"]
    assert report["images"] == report["alike"] > 0
    assert report["max_difference"] <= 1e-5
    file = service.http.get(export["links"]["files/model.onnx"])
    assert len(file.content) == export["files"]["model.onnx"]["size"]

    session = open_session(file.content)
    words = session.get_modelmeta().custom_metadata_map
    assert words["digest"] == version["digest"]
    assert json.loads(words["classes"]) == version["classes"]
    images = [png(value, 99) for value in range(4)]
    answer = service.predict(
        *((f"{number}.png", image) for number, image in enumerate(images)), model="leaving"
    )
    for image, served in zip(images, answer.json()["results"], strict=True):
        rgb = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        probabilities, label = session.run(["probabilities", "label"], {"image": rgb})
        assert label == served["label"]
        assert abs(float(probabilities.max()) - served["confidence"]) <= 1e-5
