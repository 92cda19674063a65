# Written by .ci/client.py, a part of `make format`, from topwork.types.finetune.
"""Fields of `POST /finetune` and `POST /datasets` as keyword arguments."""

from collections.abc import Mapping
from typing import Literal, Required, TypedDict

from topwork.kinds import ClassSource, GroupBy, NameEncoding, Priority


class LayoutOptions(TypedDict, total=False):
    """What the folders of an upload mean, where their names do not say it."""

    train: list[str]
    val: list[str]
    test: list[str]
    ignore: list[str]
    classes: ClassSource | Literal["outer", "inner", "path", "filename"] | None
    labels: list[str]
    label_column: str | None


class UploadReadingOptions(TypedDict, total=False):
    """Answers to what an upload does not say itself; they are kept with its version."""

    name_encoding: (
        NameEncoding
        | Literal[
            "utf-8",
            "cp932",
            "euc_jp",
            "gb18030",
            "cp950",
            "cp949",
            "cp874",
            "cp850",
            "cp437",
            "cp737",
            "cp852",
            "cp857",
            "cp862",
            "cp866",
            "cp1252",
            "cp1250",
            "cp1251",
            "cp1253",
            "cp1254",
            "cp1255",
            "cp1256",
            "cp1257",
            "koi8-r",
        ]
        | None
    )
    layout: LayoutOptions | None


class HyperparametersOptions(TypedDict, total=False):
    """The numbers of the optimisation; each `auto` is resolved in the plan with its reason."""

    epochs: Literal["auto"] | int
    batch_size: Literal["auto"] | int
    learning_rate: Literal["auto"] | float
    trunk_factor: Literal["auto"] | float
    weight_decay: Literal["auto"] | float
    momentum: Literal["auto"] | float
    optimizer: Literal["auto", "sgd", "adamw"]
    schedule: Literal["auto", "onecycle", "cosine", "constant"]
    warmup_epochs: Literal["auto"] | float
    image_size: Literal["auto"] | int


class EarlyStoppingOptions(TypedDict, total=False):
    """When to stop before the last epoch."""

    patience: Literal["auto"] | int


class SplitSharesOptions(TypedDict, total=False):
    """Shares of the images set aside when the upload has no `val` or `test` folder."""

    val: float
    test: float
    group_by: GroupBy | Literal["near_duplicates", "folder", "pattern", "column", "none"]
    group_pattern: str | None
    group_column: str | None


class LimitsOptions(TypedDict, total=False):
    """Bounds of the run; reaching one ends training with the best weights so far."""

    max_minutes: float | None


class FinetuneOptions(UploadReadingOptions, total=False):
    """A fine-tuning job: a dataset, a network, and whatever else is not left to `auto`."""

    architecture: Required[str]
    weights: str
    strategy: Literal["auto", "head", "full", "gradual"]
    hyperparameters: HyperparametersOptions
    selection_metric: Literal["auto", "accuracy", "macro_f1", "loss"]
    imbalance: Literal["auto", "none", "weighted_sampling", "logit_adjustment"]
    augmentation: Literal["auto", "none", "light", "standard", "strong"]
    fit: Literal["auto", "crop", "pad", "squash"]
    augmentation_policy: Literal["auto", "none", "trivial_augment", "rand_augment"]
    erasing: Literal["auto"] | float
    mixup: Literal["auto"] | float
    cutmix: Literal["auto"] | float
    label_smoothing: Literal["auto"] | float
    ema: Literal["auto", "off"] | float
    refit: Literal["auto"] | bool
    sixteen_bit: Literal["auto", "declared", "range"]
    early_stopping: EarlyStoppingOptions | None
    split: SplitSharesOptions
    limits: LimitsOptions
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    devices: Literal["auto"] | int
    seed: int
    deterministic: bool
    allow_lost_classes: bool
    name: str | None
    metadata: Mapping[str, str | int | float | bool | None]
    priority: Priority | Literal["high", "normal", "low"]
