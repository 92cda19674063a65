"""Models, their versions and aliases."""

from typing import Any, Literal

from pydantic import Field

from topwork.kinds import ExportFormat, ModelSource
from topwork.types.values import Answer, Body, Links, Metadata, Moment, Open

HEATMAP = "Whether it can say what each part of an image adds to a class: `explain=heatmap`."
ALIAS = r"^[a-z][a-z0-9._-]{0,62}$"
POINTER = r"^([1-9][0-9]{0,8}|[a-z][a-z0-9._-]{0,62})$"  # A version or an alias.


class File(Answer):
    """A file of a published model."""

    sha256: str = Field(description="Of its content.")
    size: int = Field(description="In bytes.")


class DatasetOrigin(Answer):
    """What a version was trained on."""

    id: str | None = Field(None, description="`ds_...`.")
    version: int | None = Field(None, description="Number of its version.")
    digest: str | None = Field(None, description="SHA-256 of its manifest.")


class ModelVersion(Answer):
    """One published classifier; nothing about it ever changes."""

    id: str = Field(description="`mv_...`.")
    object: Literal["model_version"] = Field("model_version", description="Always `model_version`.")
    model: str = Field(description="Name of the model.")
    number: int = Field(description="Rises by one; never given twice under a name.")
    job: str | None = Field(description="The job that made it, while that job exists.")
    digest: str = Field(description="`sha256:` and the hash of the weights.")
    architecture: str | None = Field(description="Name of the network.")
    classes: list[str] = Field(description="In the order of the network's outputs.")
    metrics: dict[str, Any] = Field(description="Headlines of its evaluation, by split.")
    dataset: DatasetOrigin | None = Field(description="What it was trained on.")
    heatmap: bool = Field(default=False, description=HEATMAP)
    card: dict[str, Any] = Field(
        description="Everything needed to use the weights without this service."
    )
    files: dict[str, File] = Field(description="What it consists of, by file name.")
    created_at: Moment = Field(description="When it was published.")
    links: Links


class Compared(Answer):
    """How an exported file and the service answer about the same images."""

    images: int = Field(description="On which both were asked.")
    alike: int = Field(description="Of these, how many get the same label.")
    max_difference: float = Field(description="Of the probabilities of any class.")


class Export(Answer):
    """A version as a file for other programs."""

    object: Literal["export"] = Field("export", description="Always `export`.")
    model: str = Field(description="Name of the model.")
    number: int = Field(description="Of the version.")
    format: Open[ExportFormat] = Field(description="`onnx`, `torch` or `bundle`.")
    files: dict[str, File] = Field(description="What it consists of, by file name.")
    report: dict[str, Compared] = Field(
        description="`held_out`: images of val and test; `made`: images of awkward sizes."
    )
    created_at: Moment = Field(description="When it was published.")
    links: Links


class ExportOrder(Body):
    """What a version is to be written as."""

    format: ExportFormat = Field(ExportFormat.ONNX, description="Form of the file.")


class Model(Answer):
    """A name that `POST /predict` answers to."""

    name: str = Field(description="As `model` of a request.")
    object: Literal["model"] = Field("model", description="Always `model`.")
    source: Open[ModelSource] = Field(description="Where its weights come from.")
    architecture: str | None = Field(description="Network of the newest version.")
    description: str | None = Field(description="Words of its owner's.")
    metadata: dict[str, Any] = Field(description="Values of its owner's.")
    latest: int | None = Field(description="Number of the newest version.")
    metrics: dict[str, Any] = Field(description="Of the newest version.")
    aliases: dict[str, int] = Field(description="Version that each alias points to.")
    owner: str | None = Field(description="Whose job published it first; null for ImageNet models.")
    created_at: Moment | None = Field(description="When it was published first.")
    links: Links


class Alias(Answer):
    """A movable pointer to a version."""

    object: Literal["alias"] = Field("alias", description="Always `alias`.")
    model: str = Field(description="Name of the model.")
    alias: str = Field(description="As in `model@alias`.")
    version: int = Field(description="Number that it means now.")


class AliasRequest(Body):
    """Where an alias points."""

    version: int = Field(ge=1, le=2**31 - 1, examples=[3], description="Number of the version.")


class ModelPatch(Body):
    """What can be changed about a model."""

    description: str | None = Field(None, max_length=1000, description="Words about it.")
    metadata: Metadata | None = Field(None, description="Replaces all earlier values.")
