"""What `POST /finetune` and `POST /datasets` take."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from app.api.schemas.values import Answer, DatasetName, Metadata, ModelName
from topwork.types.training import Split, TrainConfig

DatasetReference = Annotated[
    str,
    Field(
        pattern=r"^ds_[0-9a-z]{22}(@[1-9][0-9]{0,8})?$",
        description="Id of a dataset, `ds_...`, as `POST /datasets` and `GET /datasets` name it;"
        " or of one of its versions, after `@`. A form with files names none.",
    ),
]
UploadId = Annotated[
    str,
    Field(pattern=r"^up_[0-9a-z]{22}$", description="Id of a complete upload, `up_...`."),
]
Priority = Literal["high", "normal", "low"]
EXAMPLE: JsonDict = {
    "dataset": "ds_01k9z8v3q7m2c4d6e8f0g1@1",
    "architecture": "mobilenet_v2",
    "name": "pets",
    "strategy": "head",
    "hyperparameters": {"epochs": 20},
    "metadata": {"ticket": "42"},
}


class FinetuneRequest(TrainConfig):
    """A fine-tuning job: a dataset, a network, and whatever else is not left to `auto`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    dataset: DatasetReference | None = None
    upload: UploadId | None = Field(
        None, description="A complete upload of `/uploads` in place of a dataset; it is used up."
    )
    name: ModelName | None = Field(
        None,
        description="Name of the model whose next version this becomes; made from the dataset's"
        " where absent.",
    )
    metadata: Metadata = Field({})
    priority: Priority = "normal"

    def train_config(self) -> dict[str, Any]:
        """Return the part that the trainer reads, as JSON."""
        return self.model_dump(mode="json", include=set(TrainConfig.model_fields))


class SplitRequest(Split):
    """How an upload without `val` and `test` folders is divided; the seed decides which images."""

    seed: int = Field(42, ge=0, le=2**32 - 1)


class DatasetFields(Answer):
    """The fields beside the files of `POST /datasets`."""

    model_config = ConfigDict(extra="forbid")

    name: DatasetName | None = None
    metadata: Metadata = Field({})
    split: SplitRequest = SplitRequest()


class DatasetRequest(DatasetFields):
    """A dataset from an upload that came in pieces."""

    upload: UploadId
    """A complete upload of `/uploads`; it is used up."""


class PlanOut(Answer):
    """What a fine-tuning job would do; nothing was stored."""

    object: Literal["plan"] = "plan"
    name: str
    """Name of the model that would be published."""
    classes: list[str]
    counts: dict[str, dict[str, int]]
    """Images per split and class."""
    plan: dict[str, Any]
    """Every `auto` resolved, each with its reason."""
    eta: float
    """Rough seconds of the whole job on two ordinary cores."""
    findings: list[dict[str, Any]]
    """What looks wrong with the data."""
    skipped: dict[str, int] = Field({})
    """Files with nothing to read, by reason."""
    rejected: dict[str, int] = Field({})
    """Files that would be refused, by reason."""
