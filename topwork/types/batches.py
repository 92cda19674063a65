"""The request of `POST /predictions`, and the answers of such a job."""

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from topwork.kinds import AbstainReason, Decision, Priority, RejectMode, ResultStatus, Split
from topwork.types.datasets import ArchiveNames, UploadId
from topwork.types.finetune import DatasetReference
from topwork.types.predictions import MODEL, REASON, SIMILARITY, TOP_K, Ranked
from topwork.types.problems import Error
from topwork.types.values import Answer, Body, Metadata, Open, Reject

_EXAMPLE: JsonDict = {
    "model": "pets@3",
    "dataset": "ds_01k9z8v3q7m2c4d6e8f0g1@1",
    "split": "test",
    "top_k": 3,
}


class BatchFields(Body):
    """What may accompany images of which many are to be classified."""

    model: str = Field(
        min_length=1, max_length=200, examples=["pets@3", "mobilenet_v2"], description=MODEL
    )
    top_k: int = Field(5, ge=1, le=1000, description=TOP_K)
    reject: Reject = RejectMode.AUTO
    name_encoding: ArchiveNames = None
    priority: Priority = Field(Priority.NORMAL, description="Which queued jobs run first.")
    metadata: Metadata = Field({}, description="Up to 32 values of your own.")


class EvaluationRequest(Body):
    """The dataset version on which a model is measured."""

    dataset: DatasetReference = Field(
        description="Id of a dataset, `ds_...`, or of one of its versions, after `@`."
    )
    split: Split | None = Field(None, description="Only its images of this split; null: all.")
    priority: Priority = Field(Priority.NORMAL, description="Which queued jobs run first.")
    metadata: Metadata = Field({}, description="Up to 32 values of your own.")


class BatchRequest(BatchFields):
    """A batch prediction over a dataset version, or over an upload that came in pieces."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    dataset: DatasetReference | None = Field(
        None, description="Id of a dataset, `ds_...`, or of one of its versions, after `@`."
    )
    upload: UploadId | None = Field(
        None, description="Id of a complete upload, `up_...`, in place of it; it is used up."
    )
    split: Split | None = Field(
        None, description="Only the dataset's images of this split; null: all."
    )


class BatchResult(Answer):
    """The answer about one image of a batch: a line of its results."""

    index: int = Field(description="Number of the image in the batch, from 0 on.")
    path: str = Field(description="As uploaded.")
    sha256: str | None = Field(description="Of the file; null where it could not be read.")
    split: Open[Split] | None = Field(description="Of the dataset's; null without one.")
    class_name: str | None = Field(alias="class", description="Its class, where the data say it.")
    status: Open[ResultStatus] = Field(description="Whether it could be classified.")
    decision: Open[Decision] | None = Field(None, description="Whether the label is relied on.")
    reason: Open[AbstainReason] | None = Field(None, description=REASON)
    label: str | None = Field(None, description="The first class of the ranking.")
    confidence: float | None = Field(None, description="Its calibrated probability.")
    similarity: float | None = Field(None, description=SIMILARITY)
    predictions: list[Ranked] = Field([], description="The ranking, at most `top_k` long.")
    class_index: int | None = Field(
        None, description="Output of the network for its class; null where it has none."
    )
    class_confidence: float | None = Field(
        None, description="Calibrated probability of its class; a small one may be a wrong label."
    )
    error: Error | None = Field(None, description="Why there is no answer.")
