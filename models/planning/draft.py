"""A plan in the making: what is given, and every field of a stage once it is decided."""

import copy
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, Self

from models.planning import mirroring
from models.planning.catalogue import Architecture
from topwork.types.training import TrainConfig

AUTO = "auto"
BYTE_BITS = 8


class Sizes(NamedTuple):
    """Images of each split."""

    train: int
    val: int
    test: int


class Draft:
    """What the rules look at; a rule that reads a field before its turn gets an AttributeError.

    Args:
        config: What was asked for.
        architecture: The network.
        summary: The `dataset.json` of the images.
        parent_size: The side in pixels that the model of `weights: model:NAME` takes.
        parent_fit: How it sees images.
    """

    stage: str
    mode: str
    weights: str
    strategy: str
    refit: bool
    image_size: int
    sixteen_bit: str
    batch_size: int
    epochs: int
    optimizer: str
    batch_norm: str
    augmentation: str
    canvas: int | None
    fit: str
    devices: int

    def __init__(
        self,
        config: TrainConfig,
        architecture: Architecture,
        summary: Mapping[str, Any],
        parent_size: int | None,
        parent_fit: str = "crop",
    ) -> None:
        counts: Mapping[str, Mapping[str, int]] = summary["counts"]
        self.config, self.architecture = config, architecture
        self.parent_size, self.parent_fit = parent_size, parent_fit
        self.classes: list[str] = summary["classes"]
        self.class_sizes = [counts.get("train", {}).get(name, 0) for name in self.classes]
        self.images = Sizes(*(sum(counts.get(name, {}).values()) for name in Sizes._fields))
        self.drawn: list[str] = summary.get("drawn") or []
        shapes: Mapping[str, Any] = summary.get("shapes") or {}
        self.largest: int | None = shapes.get("largest")
        self.wide: Mapping[str, int] = summary.get("sixteen_bit") or {}
        self.elongated: int | None = shapes.get("elongated")
        self.unseen: float = shapes.get("unseen", 0.0)
        self.reasons: dict[str, str] = {}
        stopping = vars(config.early_stopping) if config.early_stopping else {}
        self._asked = {**vars(config), **vars(config.hyperparameters), **stopping}

    def of(self, stage: str, mode: str) -> Self:
        """Return the draft of one stage, which goes on from what is decided for all."""
        draft = copy.copy(self)
        draft.stage, draft.mode, draft.reasons = stage, mode, dict(self.reasons)
        return draft

    def asked(self, field: str) -> Any:
        """Return what the user wants of a field; AUTO where nothing was said."""
        return self._asked.get(field, AUTO)

    @property
    def total(self) -> int:
        """Images of all splits."""
        return sum(self.images)

    @property
    def auxiliary(self) -> str:
        """Names of the heads that only training uses."""
        return ", ".join(head.layer for head in self.architecture.auxiliary)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(self.images.train / self.batch_size) or 1

    @property
    def smallest_batch(self) -> int:
        """Images of the smallest batch; batches differ by one at most."""
        images = self.images.train
        return images // math.ceil(images / self.batch_size) if images else self.batch_size

    @property
    def share(self) -> str:
        """How many images of a batch each process takes."""
        least, rest = divmod(self.batch_size, self.devices)
        return f"{least} to {least + 1}" if rest else f"{least}"

    @property
    def over_processes(self) -> str:
        """Over what several processes take the statistics of a batch."""
        words = "; over the whole batch on GPUs, over each process's part on CPUs"
        return "" if self.asked("devices") in (AUTO, 1) else words

    @cached_property
    def skew(self) -> float:
        """How many times the images of the smallest class the largest has."""
        return max(self.class_sizes, default=0) / max(1, min(self.class_sizes, default=0))

    @property
    def used_white(self) -> int:
        """The largest number of as many bits as the largest sample has, at least 8."""
        return (1 << max(BYTE_BITS, self.wide.get("largest", 0).bit_length())) - 1

    @cached_property
    def sided(self) -> str | None:
        """A class that would mean another thing in a mirror."""
        return mirroring.changes(self.classes)
