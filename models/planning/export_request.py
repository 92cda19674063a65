"""`request.json` of an export: written by the worker, read by `models.export`."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from topwork.errors import InvalidField
from topwork.kinds import ExportFormat

LARGEST_ONNX = 2**31 - 2**26  # Bytes of weights; a file of protobuf ends at 2 GiB.
FIRST_PIXELS = 2  # Revision of the arithmetic of pixels from which on there is a graph of it.


class ExportRequest(BaseModel):
    """What is to be written, and where its inputs lie on this machine."""

    name: str = "model"
    """What the file calls the model: `pets@3`."""
    format: ExportFormat
    model: Path
    model_sha256: str | None = None
    """What `card.json` must be: it names the hash of the weights."""
    dataset: Path | None = None
    """The version that the model was trained on, for the comparison; None where it is gone."""
    dataset_sha256: str | None = None
    """What `dataset.json` must be: it names the manifest's hash, and that each image's."""


def check(form: ExportFormat, card: dict[str, Any]) -> None:
    """Refuse a form in which a model cannot be written; the api asks before there is a job.

    Raises:
        InvalidField: There is no such file of a model with this card.
    """
    if form is not ExportFormat.ONNX:
        return
    size = card["files"]["weights.safetensors"]["size"]
    if size > LARGEST_ONNX:
        message = f"weights of {size} bytes do not fit into one ONNX file"
        raise InvalidField(message, param="format", hint="Export it as torch.")
    revision = card["preprocess"].get("revision", 1)
    if revision < FIRST_PIXELS:
        message = f"an ONNX file cannot compute pixels of revision {revision} as this model does"
        hint = "Export it as torch, or train it again: new models have the latest revision."
        raise InvalidField(message, param="format", hint=hint)
