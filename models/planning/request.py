"""`request.json` of a run: written by the worker, read by `models.train` or `models.predict`."""

from pathlib import Path

from pydantic import BaseModel, Field

from topwork.kinds import RejectMode, Split
from topwork.types.training import TrainConfig


class DatasetRef(BaseModel):
    """Where the staged dataset came from, for the model card."""

    id: str | None = None
    version: int | None = None


class TrainRequest(BaseModel):
    """The config of a run, and where its inputs lie on this machine."""

    job: str = "job_local"
    name: str = "model"
    config: TrainConfig
    dataset: Path
    dataset_sha256: str | None = None
    """What `dataset.json` must be: it names the manifest's hash, and that each image's."""
    dataset_ref: DatasetRef = DatasetRef()
    weights_dir: Path
    offline: bool = False
    download_timeout: float = Field(5.0, gt=0)
    init_from: Path | None = None
    init_sha256: str | None = None
    """What the `card.json` of the model to start from must be: it names the hash of its weights."""
    cache_dir: Path | None = None
    """What later runs on this machine can use again lies here; None keeps nothing."""
    cache_bytes: int = Field(8 << 30, ge=0)
    """Most bytes of decoded images and features kept in `cache_dir`; 0 keeps none."""


class PredictRequest(BaseModel):
    """Which model is asked about which images, and where both lie on this machine."""

    images: Path
    """A folder with `manifest.jsonl` and `shards/`."""
    images_sha256: str
    """What the manifest must be: it names the hash of each image."""
    split: Split | None = None
    """Ask about the images of this split alone."""
    top_k: int = Field(5, ge=1)
    reject: RejectMode | float = RejectMode.AUTO
    max_image_pixels: int = Field(gt=0)
    model: Path | None = None
    """The folder of an artefact; None asks the architecture with its ImageNet weights."""
    model_sha256: str | None = None
    """What the `card.json` of the model must be."""
    architecture: str | None = None
    weights_dir: Path
    offline: bool = False
    download_timeout: float = Field(5.0, gt=0)
