"""The request and the answer of `POST /predict`."""

from base64 import b64decode
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from topwork.kinds import AbstainReason, Decision, ExplainMode, RejectMode, ResultStatus
from topwork.types.models import HEATMAP
from topwork.types.problems import Error
from topwork.types.values import Answer, Body, Open, Reject

MODEL = "Own model, version or alias; an architecture name means its ImageNet labels."
TOP_K = "Most classes named for an image."
REASON = "Why not: `unknown`, like no image of training; `unsure`, of which class it is."
SIMILARITY = "Mean cosine to the nearest images of training; null where the model keeps none."
_EXAMPLE: JsonDict = {
    "object": "prediction",
    "id": "pr_01k9z8v3q7m2c4d6e8f0g3",
    "model": {"name": "pets", "version": 3, "architecture": "resnet50", "digest": "sha256:9f..."},
    "results": [
        {
            "filename": "cat.jpg",
            "status": "ok",
            "decision": "accept",
            "reason": None,
            "label": "cat",
            "confidence": 0.93,
            "similarity": 0.88,
            "predictions": [{"label": "cat", "index": 4, "confidence": 0.93}],
        },
        {
            "filename": "x.txt",
            "status": "error",
            "error": {
                "code": "image_undecodable",
                "message": "The file is not an image that can be decoded.",
                "hint": "Send a complete JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file.",
            },
        },
    ],
    "timing_ms": {"decode": 6.1, "queue": 2.0, "forward": 9.3, "total": 19.0},
}


EXPLAIN = "`heatmap`: say what each part of an image has added to a class."
EXPLAIN_CLASS = "Label or WordNet id of the class that is explained; else the first of the ranking."
EXPLAIN_OVERLAY = "Also draw the heat map upon the image."


class PredictFields(Body):
    """What may accompany images."""

    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        examples=["pets", "pets@3", "pets@production", "mobilenet_v2"],
        description=MODEL,
    )
    top_k: int = Field(5, ge=1, le=1000, description=TOP_K)
    reject: Reject = RejectMode.AUTO
    explain: ExplainMode | None = Field(None, description=EXPLAIN)
    explain_class: str | None = Field(
        None, min_length=1, max_length=1000, examples=["cat"], description=EXPLAIN_CLASS
    )
    explain_overlay: bool = Field(default=False, description=EXPLAIN_OVERLAY)


class ImageData(Body):
    """One image in a JSON body."""

    data: str = Field(
        description="The file's bytes in base64, in either alphabet, or as a `data:` URL.",
        examples=["/9j/4AAQSkZJRg..."],
    )
    filename: str | None = Field(
        None, max_length=1000, examples=["cat.jpg"], description="Comes back in the answer."
    )

    @model_validator(mode="before")
    @classmethod
    def _explained(cls, value: Any) -> Any:
        if isinstance(value, str):
            text = 'an image is an object with its bytes in base64: {"data": "..."}'
            raise PydanticCustomError("image_is_text", text)
        if isinstance(value, dict) and not {"url", "uri", "image_url"}.isdisjoint(value):
            text = "nothing is fetched from addresses, by design: send the bytes as `data`"
            raise PydanticCustomError("image_is_address", text)
        return value


class PredictRequest(PredictFields):
    """Images as base64."""

    images: list[ImageData] = Field(min_length=1, max_length=100, description="At least one.")


class Ranked(Answer):
    """One class of a ranking."""

    label: str = Field(description="Name of the class.")
    index: int = Field(
        description="Output of the network; for ImageNet models the class index 0..999."
    )
    confidence: float = Field(description="Calibrated probability.")
    wordnet_id: str | None = Field(
        None, description="ImageNet models only: two pairs of ImageNet labels share a name."
    )


class Box(Answer):
    """A part of an upright image, as shares of its sides from the top left.

    They lie in 0..1 unless the network sees a margin around the image (`fit: pad`).
    """

    left: float = Field(description="Share of the width.")
    top: float = Field(description="Share of the height.")
    right: float = Field(description="Share of the width.")
    bottom: float = Field(description="Share of the height.")


class Heatmap(Answer):
    """What each part of an image has added to a class."""

    label: str = Field(description="Name of the class that is explained.")
    index: int = Field(description="Its output of the network.")
    method: str = Field(description="`cam`: class activation map (arXiv 1512.04150).")
    cells: list[list[float]] = Field(
        description="Rows from the top, of what each cell of a grid over `box` has added. Their "
        "mean and `bias` add up to `margin`."
    )
    bias: float = Field(description="What is added wherever the network looks.")
    margin: float = Field(
        description="How far the class's logit lies above the others, which are weighed by their "
        "probability."
    )
    box: Box = Field(description="The part of the image that the network has seen.")
    width: int = Field(description="Of the image, turned upright as its orientation says.")
    height: int = Field(description="Likewise, in pixels.")
    png: str = Field(
        description="PNG in base64 to lay over `box`: red speaks for the class, blue against it, "
        "what is transparent for nothing."
    )
    overlay: str | None = Field(
        None,
        description="PNG in base64 of the image with it, where `explain_overlay` asked for it; its "
        "longer side has 512 pixels at most.",
    )

    def save(self, path: str | Path) -> None:
        """Write the overlay, or without one the transparent picture, to a PNG file."""
        Path(path).write_bytes(b64decode(self.overlay or self.png))


class Result(Answer):
    """The answer about one image, in the order of the request."""

    filename: str = Field(description="As sent; empty for an image without a name.")
    status: Open[ResultStatus] = Field(description="Whether it could be classified.")
    decision: Open[Decision] | None = Field(None, description="Whether the label is relied on.")
    reason: Open[AbstainReason] | None = Field(None, description=REASON)
    label: str | None = Field(None, description="The first class of the ranking.")
    confidence: float | None = Field(None, description="Its calibrated probability.")
    similarity: float | None = Field(None, description=SIMILARITY)
    predictions: list[Ranked] = Field([], description="The ranking, at most `top_k` long.")
    heatmap: Heatmap | None = Field(None, description="Where `explain` asked for it.")
    error: Error | None = Field(None, description="Why there is no answer.")


class Rejection(Answer):
    """What an answer must reach to be relied on."""

    coverage: float | None = Field(
        None, description="Share of images of the model's classes that is accepted."
    )
    low: float | None = Field(None, description="Lower end of the 95 % interval of that share.")
    high: float | None = Field(None, description="Upper end.")
    similarity: float | None = Field(None, description="Below it an image is `unknown`.")
    confidence: float | None = Field(None, description="Below it an answer is `unsure`.")
    reason: str | None = Field(None, description="Why every answer is accepted.")


class PredictedBy(Answer):
    """The model that gave the answers."""

    name: str = Field(description="Model, or architecture with its ImageNet labels.")
    version: int | None = Field(description="Number of the version; null for ImageNet labels.")
    architecture: str | None = Field(description="Name of the network.")
    digest: str | None = Field(None, description="`sha256:` and the hash of the weights.")
    classes: int | None = Field(None, description="How many classes it tells apart.")
    rejection: Rejection | None = Field(None, description="By what `decision` is made.")
    heatmap: bool = Field(default=False, description=HEATMAP)


class Prediction(Answer):
    """Answers about images, in their order; indexing gives one of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    object: Literal["prediction"] = Field("prediction", description="Always `prediction`.")
    id: str = Field(description="`pr_...`.")
    model: PredictedBy = Field(description="What has answered.")
    results: list[Result] = Field(description="One for each image.")
    timing_ms: dict[str, float] = Field(description="Milliseconds of each stage.")

    def __getitem__(self, position: int) -> Result:
        """Return the answer about one image."""
        return self.results[position]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.results)
