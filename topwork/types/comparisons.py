"""Two versions of a model on the same held-out images."""

from typing import Literal

from pydantic import Field

from topwork.types.values import Answer


class Change(Answer):
    """A share of right answers, of the old version and of the new one, on the same images."""

    images: int = Field(description="How many both versions answered.")
    old: float | None = Field(description="Share that the old version has right.")
    new: float | None = Field(description="Share that the new version has right.")
    change: float | None = Field(description="New less old; null without images.")
    low: float | None = Field(description="Lower end of the 95 % interval of the change, paired.")
    high: float | None = Field(description="Upper end of it.")
    fixed: int = Field(description="Images that only the new version has right.")
    broken: int = Field(description="Images that only the old version has right.")


class ClassChange(Change):
    """The same for the images of one class: the change of its recall."""

    class_name: str = Field(alias="class", description="Its name.")


class CalibrationErrors(Answer):
    """Expected calibration errors on the same images."""

    old: float = Field(description="Of the old version.")
    new: float = Field(description="Of the new version.")


class BrokenImage(Answer):
    """An image that the old version has right and the new one has not."""

    sha256: str = Field(description="Of its file.")
    path: str = Field(description="As uploaded.")
    class_name: str = Field(alias="class", description="Its class.")
    predicted: str = Field(description="What the new version takes it for.")
    confidence: float = Field(description="How surely.")


class Comparison(Answer):
    """What gets better and what gets worse from one version of a model to another.

    Both are judged by the images that were held out from the training of either.
    """

    object: Literal["comparison"] = Field("comparison", description="Always `comparison`.")
    model: str = Field(description="Name of the model.")
    old: int = Field(description="Number of the old version.")
    new: int = Field(description="Number of the new version.")
    split: str = Field(description="Split that the images are of, for both: `test` or `val`.")
    left_out: int = Field(description="Held-out images of which only one version has an answer.")
    accuracy: Change = Field(description="Over all images.")
    ece: CalibrationErrors = Field(description="How far confidence is from accuracy.")
    per_class: list[ClassChange] = Field(description="The greatest loss first.")
    lost_classes: list[str] = Field(description="Classes that only the old version knows.")
    broken: list[BrokenImage] = Field(
        description="Up to 50 images that got worse, the surest wrong answer first."
    )
