"""`request.json` of an export: written by the worker, read by `models.export`."""

from pathlib import Path

from pydantic import BaseModel

from topwork.kinds import ExportFormat


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
