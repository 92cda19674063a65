"""Networks that can be fine-tuned, and their published weights."""

from typing import Literal

from pydantic import Field

from topwork.types.models import HEATMAP
from topwork.types.values import Answer


class Weights(Answer):
    """Published ImageNet weights."""

    preset: str = Field(description="Their publisher's name for them.")
    url: str = Field(description="Where they are published.")
    megabytes: float = Field(description="Size of the file; 1 MB = 2**20 bytes.")
    top1: float = Field(description="Percent on ImageNet's validation images.")
    top5: float = Field(description="Percent with the right class among the first five.")
    license: str | None = Field(description="Address of a licence that differs from the code's.")
    available_offline: bool = Field(description="Whether they are on this machine.")
    obtainable: bool = Field(
        default=True,
        description="Whether a job can have them: they are here, or may be downloaded.",
    )


class Architecture(Answer):
    """A network that can be fine-tuned."""

    name: str = Field(description="As `architecture` of a request.")
    object: Literal["architecture"] = Field("architecture", description="Always `architecture`.")
    family: str = Field(description="Networks of one paper, or of one line of them.")
    title: str = Field(description="Of the paper.")
    paper: str = Field(description="Its address.")
    parameters: int = Field(description="For 1000 classes, without auxiliary heads.")
    gigaops: float = Field(description="Multiply-adds for one image of `input_size`, in 10**9.")
    input_size: int = Field(description="Side of the square input it was made for, in pixels.")
    min_size: int = Field(description="Smallest side that works in training, too.")
    fixed_size: bool = Field(description="Whether `input_size` is the only side that works.")
    mean: list[float] = Field(description="Of the red, green and blue samples in 0..1.")
    std: list[float] = Field(description="Their standard deviation.")
    interpolation: str = Field(description="Filter of the resize.")
    heatmap: bool = Field(default=False, description=HEATMAP)
    head: str = Field(description="Layer that is replaced.")
    auxiliary_heads: list[str] = Field(description="Layers that only training uses.")
    weights: Weights | None = Field(
        description="Null where nobody publishes any: such a network trains from scratch."
    )
