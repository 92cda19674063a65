"""What an answer shows of its heat map: numbers, where they lie, and pictures of them."""

import base64
from dataclasses import dataclass
from typing import Any

from PIL import Image

from core.imaging.decode import OpenImage
from models.inference import heatmap_picture
from models.inference.classifier import Classifier, Crops
from models.inference.heatmap import METHOD, HeatMap
from models.inference.heatmap_picture import Box

SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, slots=True)
class View:
    """A decoded image: what the network sees, and what of the image that is.

    Attributes:
        crop: The network's input.
        size: Width and height of the upright image in pixels.
        box: Left, top, right and bottom of the crop, as shares of its sides (`resample.seen`).
        picture: The image itself, small, where it is to be shown.
    """

    crop: Crops
    size: tuple[int, int]
    box: Box
    picture: Image.Image | None


def view(classifier: Classifier, image: OpenImage, *, overlay: bool) -> View:
    """Decode an image for a heat map; errors as of `Classifier.crop`."""
    preprocess, size = classifier.preprocess, image.size
    picture = preprocess.rgb(image)
    crop, box = preprocess.uint8(picture), preprocess.seen(picture)
    if overlay:
        heatmap_picture.shrink(picture)
    return View(crop, size, box, picture if overlay else None)


def told(classifier: Classifier, heat: HeatMap, seen: View) -> dict[str, Any]:
    """Return a heat map as an answer has it."""
    width, height = seen.size
    overlay = seen.picture and heatmap_picture.overlay(seen.picture, seen.box, heat.cells)
    return {
        "label": classifier.labels[heat.index].name,
        "index": heat.index,
        "method": METHOD,
        "cells": heat.cells.round(6).tolist(),
        "bias": round(heat.bias, 6),
        "margin": round(heat.margin, 6),
        "box": dict(zip(SIDES, seen.box, strict=True)),
        "width": width,
        "height": height,
        "png": _text(heatmap_picture.transparent(heat.cells)),
        "overlay": overlay and _text(overlay),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
