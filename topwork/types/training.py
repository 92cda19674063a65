"""The configuration of a training; torch-free, shared by the API, the CLI and the trainer.

Every value that has a sensible default is `auto`; the plan turns each into a value with its
reason before anything runs.
"""

import re
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from topwork.kinds import GroupBy
from topwork.types.group_pattern import MOST_CHARACTERS, checked

Auto: TypeAlias = Annotated[Literal["auto"], Tag("auto")]


def _word_or_value(raw: object) -> str:
    """Tell `auto` from a value, so that a wrong one gets one error instead of one per branch."""
    return "auto" if isinstance(raw, str) else "value"


def _word_off_or_value(raw: object) -> str:
    return "off" if raw == "off" else _word_or_value(raw)


def _spelled(name: object) -> object:
    return re.sub(r"[- ./]", "_", name.lower()) if isinstance(name, str) else name


_Choose = Discriminator(_word_or_value)
_Ema = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False, strict=True), Tag("value")]
_Off: TypeAlias = Annotated[Literal["off"], Tag("off")]
_Epochs = Annotated[int, Field(ge=1, le=1000, strict=True), Tag("value")]
_Batch = Annotated[int, Field(ge=1, le=4096, strict=True), Tag("value")]
_Side = Annotated[int, Field(ge=8, le=1024, strict=True), Tag("value")]
_Count = Annotated[int, Field(ge=1, le=64, strict=True), Tag("value")]
_Patience = Annotated[int, Field(ge=1, le=1000, strict=True), Tag("value")]
_Rate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False, strict=True), Tag("value")]
_Factor = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True), Tag("value")]
_Decay = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, strict=True), Tag("value")]
_Below1 = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True), Tag("value")]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True), Tag("value")]
_Alpha = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, strict=True), Tag("value")]
_Warmup = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=True), Tag("value")]


_Yes = Annotated[bool, Field(strict=True), Tag("value")]


class _Part(BaseModel):
    # What a field means is an argument: to find docstrings of attributes, pydantic searches every
    # module that is loaded for the source, which takes 0.1 s beside torch.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hyperparameters(_Part):
    """The numbers of the optimisation; each `auto` is resolved in the plan with its reason."""

    epochs: Annotated[Auto | _Epochs, _Choose] = Field(
        "auto", examples=["auto", 20], description="Passes over the training images, 1 to 1000."
    )
    batch_size: Annotated[Auto | _Batch, _Choose] = Field(
        "auto", examples=["auto", 32], description="Images per optimiser step, 1 to 4096."
    )
    learning_rate: Annotated[Auto | _Rate, _Choose] = Field(
        "auto",
        examples=["auto", 0.01],
        description="Peak learning rate of the head; of all layers when trained from scratch.",
    )
    trunk_factor: Annotated[Auto | _Factor, _Choose] = Field(
        "auto",
        examples=["auto", 0.1],
        description="Learning rate of the pretrained trunk as a fraction of the head's.",
    )
    weight_decay: Annotated[Auto | _Decay, _Choose] = Field(
        "auto",
        examples=["auto", 0.0001],
        description="Decay of weights; biases and normalisation layers are never decayed.",
    )
    momentum: Annotated[Auto | _Below1, _Choose] = Field(
        "auto", examples=["auto", 0.9], description="Momentum of SGD, first beta of AdamW."
    )
    optimizer: Literal["auto", "sgd", "adamw"] = Field(
        "auto", description="Optimiser of the gradient steps."
    )
    schedule: Literal["auto", "onecycle", "cosine", "constant"] = Field(
        "auto", description="Course of the learning rate over all steps."
    )
    warmup_epochs: Annotated[Auto | _Warmup, _Choose] = Field(
        "auto",
        examples=["auto", 1.0],
        description="Epochs over which the learning rate rises to its peak; may be a fraction.",
    )
    image_size: Annotated[Auto | _Side, _Choose] = Field(
        "auto", examples=["auto", 224], description="Side of the square input in pixels, 8 to 1024."
    )


class EarlyStopping(_Part):
    """When to stop before the last epoch."""

    patience: Annotated[Auto | _Patience, _Choose] = Field(
        "auto",
        examples=["auto", 5],
        description="Epochs without a better value of the selection metric.",
    )


class SplitShares(_Part):
    """Shares of the images set aside when the upload has no `val` or `test` folder."""

    val: float = Field(
        0.2,
        ge=0,
        le=0.9,
        allow_inf_nan=False,
        description="Share of each class used to choose the best epoch.",
    )
    test: float = Field(
        0.0,
        ge=0,
        le=0.9,
        allow_inf_nan=False,
        description="Share of each class that only the final evaluation sees.",
    )
    group_by: GroupBy = Field(
        GroupBy.NEAR_DUPLICATES,
        description="Images that go to one split together: those that show nearly the same, those"
        " of one folder, those in whose paths `group_pattern` finds the same, those of which"
        " `group_column` says the same, or `none`.",
    )
    group_pattern: str | None = Field(
        None,
        max_length=MOST_CHARACTERS,
        examples=[r"patient_(\d+)"],
        description="Regular expression that is searched for in each path; its first named group,"
        " else its first one, names the group. One character may be repeated, two after `^`; groups"
        " may not. Images without it stand alone.",
    )
    group_column: str | None = Field(
        None,
        max_length=200,
        examples=["patient"],
        description="Column of a table of labels in the upload; images without a row stand alone.",
    )

    @model_validator(mode="after")
    def _leave_images_to_train_on(self) -> Self:
        if self.val + self.test >= 1:
            message = "val and test together must leave images to train on (sum below 1)"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _say_by_what(self) -> Self:
        given = {GroupBy.PATTERN: self.group_pattern, GroupBy.COLUMN: self.group_column}
        for way, value in given.items():
            if (self.group_by == way) != (value is not None):
                message = f"group_by: {way} and group_{way} are given together"
                raise ValueError(message)
        if self.group_pattern is not None:
            checked(self.group_pattern)
        return self


class Limits(_Part):
    """Bounds of the run; reaching one ends training with the best weights so far."""

    max_minutes: float | None = Field(
        None,
        gt=0,
        le=100_000,
        allow_inf_nan=False,
        examples=[60],
        description="Minutes of decoding and training over all attempts; null means no limit.",
    )


class TrainConfig(_Part):
    """Everything that decides what a fine-tuning run computes."""

    architecture: Annotated[str, BeforeValidator(_spelled)] = Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        examples=["mobilenet_v2"],
        description="Name of a network as listed under `/architectures`; case and the signs between"
        " its parts do not matter.",
    )
    weights: str = Field(
        "auto",
        pattern=r"^(auto|imagenet|none|model:[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[A-Za-z0-9._-]{1,64})?)$",
        examples=["imagenet", "none", "model:pets@3"],
        description="Starting point; `auto` takes `imagenet` where weights are published, else"
        " `none` (random).",
    )
    strategy: Literal["auto", "head", "full", "gradual"] = Field(
        "auto",
        description="`head` trains a new head on a frozen trunk, `full` every layer, `gradual`"
        " first a head and then one block of layers more at a time, `auto` first a head and then"
        " every layer if it pays.",
    )
    hyperparameters: Hyperparameters = Field(
        default_factory=Hyperparameters, description="Numbers of the optimisation."
    )
    selection_metric: Literal["auto", "accuracy", "macro_f1", "loss"] = Field(
        "auto", description="Validation metric that chooses the epoch to keep."
    )
    imbalance: Literal["auto", "none", "weighted_sampling", "logit_adjustment"] = Field(
        "auto", description="What is done about classes of very different size."
    )
    augmentation: Literal["auto", "none", "light", "standard", "strong"] = Field(
        "auto",
        description="Random changes of training images: `light` shifts and turns, `standard` crops"
        " and mirrors, `strong` also changes colours and shapes and covers parts.",
    )
    fit: Literal["auto", "crop", "pad", "squash"] = Field(
        "auto",
        description="What the network sees of an image that is not square: `crop` the square in its"
        " middle, `pad` the whole with a margin, `squash` the whole out of shape; `auto` pads where"
        " many images are longer than 2:1.",
    )
    augmentation_policy: Literal["auto", "none", "trivial_augment", "rand_augment"] = Field(
        "auto",
        description="Changes of colour and shape by torchvision's policy of that name; in `strong`"
        " by default.",
    )
    erasing: Annotated[Auto | _Share, _Choose] = Field(
        "auto",
        examples=["auto", 0.25],
        description="Probability that a box of a training image is covered, 0 to 1; 0 for never.",
    )
    mixup: Annotated[Auto | _Alpha, _Choose] = Field(
        "auto",
        examples=["auto", 0.2],
        description="Blend each training image and its label with another's, by a share from"
        " Beta(a, a) of this a, 0 to 10; 0 for never.",
    )
    cutmix: Annotated[Auto | _Alpha, _Choose] = Field(
        "auto",
        examples=["auto", 1.0],
        description="Paste a box of another training image and its share of the label, by Beta(a,"
        " a), 0 to 10; 0 for never. With `mixup`, each step does one of the two.",
    )
    label_smoothing: Annotated[Auto | _Below1, _Choose] = Field(
        "auto",
        examples=["auto", 0.1],
        description="Probability mass spread over all classes in the training loss, 0 to below 1.",
    )
    ema: Annotated[Auto | _Off | _Ema, Discriminator(_word_off_or_value)] = Field(
        "auto",
        examples=["auto", "off", 0.99],
        description="Decay of a running average of the weights, which is validated and kept"
        " instead of them.",
    )
    refit: Annotated[Auto | _Yes, _Choose] = Field(
        "auto",
        examples=["auto", True],
        description="Whether a head on a frozen trunk learns from the validation images, too, once"
        " they have judged it; `auto` does so where they were drawn from the training images, not"
        " where the upload named them.",
    )
    sixteen_bit: Literal["auto", "declared", "range"] = Field(
        "auto",
        description="What is white in pictures of more than 8 bits: what each states, or the"
        " whole bits that the largest sample of all takes (`range`), as where 12 bits are kept in"
        " 16; `auto` takes the range where it is a quarter or less. Predictions do the same.",
    )
    early_stopping: EarlyStopping | None = Field(
        EarlyStopping(), description="Null trains all epochs."
    )
    split: SplitShares = Field(
        default_factory=SplitShares, description="How an upload without splits is divided."
    )
    limits: Limits = Field(default_factory=Limits, description="Bounds of the run.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic of the training steps; weights are always fp32. `auto` measures"
        " what is faster.",
    )
    devices: Annotated[Auto | _Count, _Choose] = Field(
        "auto", examples=["auto", 1], description="Processes that train together, one per GPU."
    )
    seed: int = Field(
        42,
        ge=0,
        le=2**32 - 1,
        strict=True,
        description="The same seed on the same machine gives the same weights.",
    )
    deterministic: bool = Field(
        default=True, description="Use only operations that repeat bit for bit."
    )
    allow_lost_classes: bool = Field(
        default=False,
        description="Train without the classes of which no image of the upload can be used; a job"
        " is refused where there are any.",
    )
