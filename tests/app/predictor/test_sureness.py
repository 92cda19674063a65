"""What a job says of its images, and the service of the same ones: how sure, if relied on."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from app.predictor.service import Predictor
from models.data.dataset import StagedDataset
from models.inference import artefact
from tests.app.predictor.orders import Stored, order, trial
from tests.app.trained import put_model
from tests.models.staging import train_doubtful
from topwork.errors import RejectionUnavailable


def test_a_job_and_the_service_are_equally_sure(stored: Stored, tmp_path: Path) -> None:
    """A run of the trainer, then its own validation images as a user would send them."""
    folder = train_doubtful(tmp_path / "trained")
    model = put_model(stored[0], folder / "run" / "result", "models/doubtful/1")
    text = (folder / "run" / "result" / "predictions.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    staged = StagedDataset(folder / "data")
    images = {sample.sha256: staged.read(sample) for sample in staged.splits["val"]}
    staged.close()

    async def work(predictor: Predictor) -> None:
        files = [images[row["sha256"]] for row in rows]
        answer = await predictor.predict(*order(model, *files))
        for row, result in zip(rows, answer["results"], strict=True):
            assert result["label"] == row["served_label"]
            assert result["confidence"] == pytest.approx(row["served_confidence"], abs=1e-5)
            assert result["decision"] == row["served_decision"]
            assert result["reason"] == row["served_reason"]
        stated = artefact.read_card(folder / "run" / "result")["rejection"]
        told = answer["model"]["rejection"]
        assert told == {name: stated[name] for name in told}
        assert stated["images"] == 60
        noise = Image.effect_noise((64, 64), 200).convert("RGB")
        out = io.BytesIO()
        noise.save(out, "PNG")
        strange = await predictor.predict(*order(model, out.getvalue()))
        assert strange["results"][0]["similarity"] < told["similarity"]
        assert strange["results"][0]["reason"] == "unknown"
        never = await predictor.predict(*order(model, out.getvalue(), reject="none"))
        assert never["results"][0]["decision"] == "accept"
        with pytest.raises(RejectionUnavailable, match="60 images"):
            await predictor.predict(*order(model, *files, reject=0.99))

    trial(stored, tmp_path, work)
    assert artefact.read_card(folder / "run" / "result")["calibration"]["temperature"] > 1.2
