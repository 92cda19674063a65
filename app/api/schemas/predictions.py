"""What `POST /predict` takes and answers."""

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from app.api.schemas.values import Answer, Body

MODEL = "Own model, version or alias; an architecture name means its ImageNet labels."
TOP_K = "Most classes named for an image."
ModelReference = Field(
    None,
    min_length=1,
    max_length=200,
    examples=["pets", "pets@3", "pets@production", "mobilenet_v2"],
    description=MODEL,
)
EXAMPLE: JsonDict = {
    "object": "prediction",
    "id": "pr_01k9z8v3q7m2c4d6e8f0g3",
    "model": {"name": "pets", "version": 3, "architecture": "resnet50", "digest": "sha256:9f..."},
    "results": [
        {
            "filename": "cat.jpg",
            "status": "ok",
            "decision": "accept",
            "label": "cat",
            "confidence": 0.93,
            "predictions": [{"label": "cat", "index": 4, "confidence": 0.93}],
            "threshold": 0.61,
        },
        {
            "filename": "x.txt",
            "status": "error",
            "error": {
                "code": "image_undecodable",
                "message": "The file is not an image that can be decoded.",
                "hint": "Send a complete JPEG, PNG, WebP, BMP, GIF or TIFF file.",
            },
        },
    ],
    "timing_ms": {"decode": 6.1, "queue": 2.0, "forward": 9.3, "total": 19.0},
}


class PredictFields(Body):
    """What may accompany images."""

    model: str | None = ModelReference
    top_k: int = Field(5, ge=1, le=1000, description=TOP_K)


class ImageIn(Body):
    """One image in a JSON body."""

    data: str = Field(description="The file's bytes in base64.", examples=["/9j/4AAQSkZJRg..."])
    filename: str | None = Field(None, max_length=1000, examples=["cat.jpg"])


class PredictRequest(PredictFields):
    """Images as base64."""

    images: list[ImageIn] = Field(min_length=1, max_length=100)


class Ranked(Answer):
    """One class of a ranking."""

    label: str
    index: int
    """Output of the network; for ImageNet models the class index 0..999."""
    confidence: float
    wordnet_id: str | None = None
    """ImageNet models only: two pairs of ImageNet labels share a name."""


class ItemError(Answer):
    """Why one image has no answer."""

    code: str = "image_undecodable"
    message: str = "The image could not be classified."
    param: str | None = None
    hint: str | None = None


class ResultOut(Answer):
    """The answer about one image, in the order of the request."""

    model_config = ConfigDict(extra="allow")

    filename: str
    """As sent; empty for an image without a name."""
    status: Literal["ok", "error"]
    decision: Literal["accept", "abstain"] | None = None
    label: str | None = None
    confidence: float | None = None
    predictions: list[Ranked] = Field([])
    threshold: float | None = None
    error: ItemError | None = None


class PredictionOut(Answer):
    """Answers about images."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    object: Literal["prediction"] = "prediction"
    id: str
    model: dict[str, Any]
    results: list[ResultOut]
    timing_ms: dict[str, float]
