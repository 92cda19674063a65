"""What a predictor tells of the parts of an image, and of where they lie."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.predictor.service import Predictor
from tests.app.predictor.orders import Stored, order, trial
from tests.app.trained import CLASSES, put_model
from tests.models.publishing import network_of, publish
from topwork.errors import HeatmapUnsupported

ARCHITECTURES = ("shufflenet_v2_x0_5", "nin")  # A linear layer behind the average, and none.
SIDE = 64


@cache
def lying() -> bytes:
    """Return a photograph of 900 x 600 pixels that is to be turned upright."""
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.effect_noise((900, 600), 120).convert("RGB").save(out, "JPEG", exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_image_gets_a_map_of_its_class(
    stored: Stored, tmp_path: Path, architecture: str
) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    card = publish(folder, network_of(architecture, CLASSES, side=SIDE))
    assert card["engine"]["heatmap"]
    model = put_model(stored[0], folder, "models/job/1")

    async def work(predictor: Predictor) -> None:
        def asked(explain: dict[str, Any] | None) -> Any:
            return predictor.predict(*order(model, lying(), lying(), explain=explain))

        plain, first = await asked(None), await asked({})
        other = await asked({"index": 2, "overlay": True})
        assert all("heatmap" not in result for result in plain["results"])
        for answer, overlay in ((first, False), (other, True)):
            for result, same in zip(answer["results"], plain["results"], strict=True):
                assert result["confidence"] == pytest.approx(same["confidence"], abs=1e-5)
                heat = result["heatmap"]
                assert heat["label"] == (CLASSES[2] if overlay else result["label"])
                assert (heat["width"], heat["height"]) == (600, 900)
                cells = np.array(heat["cells"])
                assert cells.mean() + heat["bias"] == pytest.approx(heat["margin"], abs=1e-4)
                box = heat["box"]
                assert (box["right"] - box["left"]) * 600 == pytest.approx(
                    (box["bottom"] - box["top"]) * 900, rel=0.01
                )
                assert picture(heat["png"]).size == (8 * cells.shape[1], 8 * cells.shape[0])
                assert (heat["overlay"] is not None) == overlay
        assert picture(other["results"][0]["heatmap"]["overlay"]).size == (150, 225)
        with pytest.raises(HeatmapUnsupported, match="3 classes"):
            await asked({"index": 3})

    trial(stored, tmp_path, work)


def picture(text: str) -> Image.Image:
    found = Image.open(io.BytesIO(base64.b64decode(text)))
    assert found.format == "PNG"
    return found


def test_a_network_of_several_last_layers_says_why_it_has_none(
    stored: Stored, tmp_path: Path
) -> None:
    model = stored[1](1)

    async def work(predictor: Predictor) -> None:
        with pytest.raises(HeatmapUnsupported, match="several layers") as refused:
            await predictor.predict(*order(model, lying(), explain={}))
        assert refused.value.code == "heatmap_unsupported"
        await predictor.predict(*order(model, lying()))

    trial(stored, tmp_path, work)
