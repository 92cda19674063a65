"""The request of `POST /models/import`."""

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from topwork.kinds import Priority
from topwork.types.datasets import UploadId
from topwork.types.values import Body, Metadata, ModelName

_EXAMPLE: JsonDict = {"name": "pets", "upload": "up_01k9z8v3q7m2c4d6e8f0g1"}


class ImportFields(Body):
    """What accompanies the file of a model that is to be taken in."""

    name: ModelName = Field(description="Name of the model whose next version this becomes.")
    priority: Priority = Field(Priority.NORMAL, description="Which queued jobs run first.")
    metadata: Metadata = Field({}, description="Up to 32 values of your own.")


class ImportRequest(ImportFields):
    """A model to be taken in, of which the file came in pieces."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    upload: UploadId = Field(description="Id of a complete upload, `up_...`; it is used up.")
