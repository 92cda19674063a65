"""`request.json` of a trainer run: written by the worker, read by `models.train`."""

from pathlib import Path

from pydantic import BaseModel, Field

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
