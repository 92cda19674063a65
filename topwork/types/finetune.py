"""The request of `POST /finetune`, and the plan that its dry run answers."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from topwork.kinds import Priority
from topwork.types.datasets import Files, Finding, UploadId, UploadReading
from topwork.types.jobs import PlanValue
from topwork.types.training import TrainConfig
from topwork.types.values import Answer, Counts, Metadata, ModelName

DatasetReference = Annotated[str, Field(pattern=r"^ds_[0-9a-z]{22}(@[1-9][0-9]{0,8})?$")]
_EXAMPLE: JsonDict = {
    "dataset": "ds_01k9z8v3q7m2c4d6e8f0g1@1",
    "architecture": "mobilenet_v2",
    "name": "pets",
    "strategy": "head",
    "hyperparameters": {"epochs": 20},
    "metadata": {"ticket": "42"},
}


class FinetuneRequest(TrainConfig, UploadReading):
    """A fine-tuning job: a dataset, a network, and whatever else is not left to `auto`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    dataset: DatasetReference | None = Field(
        None,
        description="Id of a dataset, `ds_...`, as `POST /datasets` and `GET /datasets` name it;"
        " or of one of its versions, after `@`. A form with files names none.",
    )
    upload: UploadId | None = Field(
        None,
        description="Id of a complete upload, `up_...`, in place of a dataset; it is used up.",
    )
    name: ModelName | None = Field(
        None,
        description="Name of the model whose next version this becomes; made from the dataset's"
        " where absent, with a number behind it where models of other datasets have that.",
    )
    metadata: Metadata = Field({}, description="Up to 32 values of your own.")
    priority: Priority = Field(Priority.NORMAL, description="Which queued jobs run first.")

    def train_config(self) -> dict[str, Any]:
        """Return the part that the trainer reads, as JSON."""
        return self.model_dump(mode="json", include=set(TrainConfig.model_fields))


class Plan(Answer):
    """What a fine-tuning job would do; nothing was stored."""

    object: Literal["plan"] = Field("plan", description="Always `plan`.")
    name: str = Field(description="Name of the model that would be published.")
    classes: list[str] = Field(description="What it would tell apart.")
    counts: Counts
    plan: dict[str, PlanValue] = Field(description="Every `auto` resolved, each with its reason.")
    eta: float = Field(description="Rough seconds of the whole job on two ordinary cores.")
    findings: list[Finding] = Field(description="What looks wrong with the data.")
    skipped: Files = Field({}, description="Files with nothing to read, by reason.")
    rejected: Files = Field({}, description="Files that would be refused, by reason.")
