"""Every `auto` of a config turned into a value with its reason: pure, torch-free.

The API's dry run and the trainer call the same function, so the plan shown is the plan run. What
only the running job can measure is marked so and filled in there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidField
from models.catalogue import Architecture
from models.config import TrainConfig

GIVEN = "as given"
SKEWED = 3.0  # Largest class over smallest from which accuracy hides the small ones.
VERY_SKEWED = 10.0
TRANSFORMERS = ("vit", "swin", "maxvit", "convnext")
SMALL_INPUT = 64
FEW_IMAGES = 5000
VIEWS = 4  # Of each image through a frozen trunk when augmentation is asked for.
# Measured on two cores; an estimate may be wrong by a factor of three elsewhere.
ASSUMED_GIGAFLOPS = 60.0
ASSUMED_DECODES = 130.0


@dataclass(frozen=True)
class Plan:
    """What the trainer does, no `auto` left, with a reason for each value.

    `mode` is `head` (frozen trunk), `tune` (pretrained, all layers) or `scratch`.
    """

    mode: str
    strategy: str
    weights: str
    image_size: int
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    trunk_factor: float
    weight_decay: float | None
    momentum: float
    schedule: str
    warmup_epochs: float
    label_smoothing: float
    augmentation: str
    imbalance: str
    selection_metric: str
    patience: int | None
    batch_norm: str
    precision: str
    devices: int
    max_minutes: float | None
    eta_seconds: float
    reasons: Mapping[str, str]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return `{name: {"value", "reason"}}` for everything that was decided."""
        return {
            name: {"value": getattr(self, name), "reason": reason}
            for name, reason in self.reasons.items()
        }


@dataclass(frozen=True)
class _Mode:
    """Defaults of one way to train: (value, reason) each."""

    optimizer: tuple[str, str]
    learning_rate: tuple[float, str]
    trunk_factor: tuple[float, str]
    weight_decay: tuple[float | None, str]
    momentum: tuple[float, str]
    warmup: tuple[float, str]  # As a share of all epochs.
    label_smoothing: tuple[float, str]
    augmentation: tuple[str, str]
    steps: int  # Optimiser steps that are usually enough.
    epochs: tuple[int, int]  # Fewest and most epochs whatever the number of steps.


_SAME_RATE = (1.0, "every layer learns at the same rate")
_MODES = {
    "head": _Mode(
        optimizer=("adamw", "converges on standardised features within a second"),
        learning_rate=(0.003, "safe for a linear layer on standardised features"),
        trunk_factor=_SAME_RATE,
        weight_decay=(None, "chosen by cross-validation on the training features"),
        momentum=(0.9, "the optimiser's default"),
        warmup=(0.1, "a tenth of the epochs"),
        label_smoothing=(0.0, "a regularised linear head needs none to stay calibrated"),
        augmentation=("none", "the frozen trunk sees each image once"),
        steps=1000,
        epochs=(20, 60),
    ),
    "tune": _Mode(
        optimizer=("sgd", "the usual choice for convolutional networks"),
        learning_rate=(0.01, "the new head may learn fast"),
        trunk_factor=(0.1, "pretrained layers change ten times slower than the new head"),
        weight_decay=(1e-4, "the usual value"),
        momentum=(0.9, "the usual value"),
        warmup=(0.15, "the new head settles before the trunk moves much"),
        label_smoothing=(0.1, "guards against overconfidence"),
        augmentation=("standard", "photographs keep their meaning when cropped and mirrored"),
        steps=1500,
        epochs=(5, 15),
    ),
    "scratch": _Mode(
        optimizer=("adamw", "needs least tuning from random weights"),
        learning_rate=(0.002, "peak that small networks reach without diverging"),
        trunk_factor=_SAME_RATE,
        weight_decay=(0.05, "decoupled decay of AdamW"),
        momentum=(0.9, "the optimiser's default"),
        warmup=(0.2, "random weights start gently"),
        label_smoothing=(0.0, "trained from scratch on all there is"),
        augmentation=("light", "mirroring could change the meaning, of digits or signs for one"),
        steps=1500,
        epochs=(20, 60),
    ),
}


def resolve(config: TrainConfig, facts: Architecture, summary: Mapping[str, Any]) -> Plan:
    """Return the plan for a dataset with this `dataset.json`.

    Raises:
        InvalidField: The values contradict each other or the architecture.
    """
    return _Resolver(config, facts, summary).plan()


class _Resolver:
    def __init__(
        self, config: TrainConfig, facts: Architecture, summary: Mapping[str, Any]
    ) -> None:
        self.config, self.facts = config, facts
        counts: Mapping[str, Mapping[str, int]] = summary["counts"]
        self.sizes = [counts.get("train", {}).get(name, 0) for name in summary["classes"]]
        self.images = sum(self.sizes)
        self.val = sum(counts.get("val", {}).values())
        self.test = sum(counts.get("test", {}).values())
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def plan(self) -> Plan:
        weights = self.choose("weights", self.config.weights, self.auto_weights())
        strategy = self.choose("strategy", self.config.strategy, self.auto_strategy(weights))
        mode = "head" if strategy == "head" else "scratch" if weights == "none" else "tune"
        self.values["mode"] = mode
        self.refuse_contradictions(weights, strategy)
        asked = self.config.hyperparameters
        size = self.facts.input_size, "the size the network was made for"
        self.check_size(self.choose("image_size", asked.image_size, size))
        self.optimisation(_MODES[mode], mode)
        self.selection()
        views = self.choose("augmentation", self.config.augmentation, _MODES[mode].augmentation)
        if mode == "head" and views != "none":
            self.reasons["augmentation"] = f"{GIVEN}: the trunk sees {VIEWS} views of each image"
        self.choose("precision", self.config.precision, ("fp32", "exact on every machine"))
        self.choose("devices", self.config.devices, (1, "one process"))
        self.values["max_minutes"] = self.config.limits.max_minutes
        self.choose("eta_seconds", "auto", self.eta(mode))
        return Plan(**self.values, reasons=self.reasons)

    def choose(self, name: str, asked: Any, auto: tuple[Any, str]) -> Any:
        """Take what was asked for, or the automatic value; keep the reason."""
        value, reason = auto if asked == "auto" else (asked, GIVEN)
        self.values[name], self.reasons[name] = value, reason
        return value

    def auto_weights(self) -> tuple[str, str]:
        if self.facts.weights is None:
            return "none", f"nobody publishes pretrained weights for {self.facts.name}"
        return "imagenet", "features learned on ImageNet carry over to most photographs"

    def auto_strategy(self, weights: str) -> tuple[str, str]:
        if weights == "none":
            return "full", "random weights have to be trained in every layer"
        return "head", "a new head on a frozen pretrained trunk trains in one pass over the images"

    def refuse_contradictions(self, weights: str, strategy: str) -> None:
        if weights == "imagenet" and self.facts.weights is None:
            raise InvalidField(
                f"There are no pretrained weights for {self.facts.name}.",
                param="weights",
                hint='Use "weights": "none" to train from scratch.',
            )
        if self.config.devices not in ("auto", 1):
            raise InvalidField(
                f"{self.config.devices} devices were asked for; this version trains on one.",
                param="devices",
                hint='Leave it out, or use "devices": 1.',
            )
        if weights == "none" and strategy == "head":
            raise InvalidField(
                "A head on a random trunk learns next to nothing.",
                param="strategy",
                hint='Use "strategy": "full" to train from scratch.',
            )

    def check_size(self, size: int) -> None:
        least, only = self.facts.min_size, self.facts.input_size
        if size < least or (self.facts.fixed_size and size != only):
            accepts = f"exactly {only}" if self.facts.fixed_size else f"at least {least}"
            raise InvalidField(
                f"{self.facts.name} takes images of {accepts} pixels.",
                param="hyperparameters.image_size",
            )

    def optimisation(self, mode: _Mode, name: str) -> None:
        asked = self.config.hyperparameters
        batch = self.choose("batch_size", asked.batch_size, self.auto_batch(name))
        if batch == 1 and name == "scratch":
            raise InvalidField(
                "Training from scratch needs at least two images in a batch.",
                param="hyperparameters.batch_size",
            )
        steps = math.ceil(self.images / batch) or 1
        low, high = mode.epochs
        enough = min(max(math.ceil(mode.steps / steps), low), high)
        why = f"about {mode.steps} steps of {steps} an epoch, between {low} and {high} epochs"
        epochs = self.choose("epochs", asked.epochs, (enough, why))
        optimizer, rate, decay = mode.optimizer, mode.learning_rate, mode.weight_decay
        if name == "tune" and self.facts.family.startswith(TRANSFORMERS):
            optimizer = "adamw", "this family is trained with AdamW"
        chosen = self.choose("optimizer", asked.optimizer, optimizer)
        if name == "tune" and chosen == "adamw":
            rate = 0.001, "the usual peak for AdamW on a new head"
            decay = 0.05, "decoupled decay of AdamW"
        if name == "scratch" and chosen == "sgd":
            rate = 0.02, "the usual peak for SGD without large batches"
            decay = 5e-4, "the usual value for SGD from scratch"
        self.choose("learning_rate", asked.learning_rate, rate)
        self.choose("trunk_factor", asked.trunk_factor, mode.trunk_factor)
        self.choose("weight_decay", asked.weight_decay, decay)
        self.choose("momentum", asked.momentum, mode.momentum)
        self.choose("schedule", asked.schedule, ("onecycle", "rises, then falls to zero"))
        share, why = mode.warmup
        self.choose("warmup_epochs", asked.warmup_epochs, (round(share * epochs, 3), why))
        self.choose("label_smoothing", self.config.label_smoothing, mode.label_smoothing)
        norm = ("train", "batches are large enough for their own statistics")
        if name != "scratch" and (name == "head" or batch < 16):  # noqa: PLR2004 - as the reason says.
            norm = ("frozen", "the trunk is frozen, or batches below 16 give poor statistics")
        self.choose("batch_norm", "auto", norm)
        patience = None
        if self.config.early_stopping is not None:
            auto = max(5, epochs // 3), "a third of the epochs, at least 5"
            patience = self.choose("patience", self.config.early_stopping.patience, auto)
        self.values["patience"] = patience

    def auto_batch(self, mode: str) -> tuple[int, str]:
        if mode == "head":
            size = 32 if self.images < FEW_IMAGES else 256
            return size, "small steps for few images, large ones for many"
        if self.facts.input_size <= SMALL_INPUT and self.images >= FEW_IMAGES:
            return 128, "small images, many of them"
        return 32, "noise of small batches helps, and they fit into memory"

    def selection(self) -> None:
        skew = max(self.sizes, default=0) / max(1, min(self.sizes, default=0))
        words = f"the largest class has {skew:.1f} times the images of the smallest"
        metric = ("macro_f1" if skew >= SKEWED else "accuracy", words)
        if not self.val:
            metric = "loss", "there are no validation images, so the training loss decides"
        self.choose("selection_metric", self.config.selection_metric, metric)
        remedy = "logit_adjustment" if skew >= VERY_SKEWED else "none"
        self.choose("imbalance", self.config.imbalance, (remedy, words))
        if not self.val and self.values["selection_metric"] != "loss":
            self.values["selection_metric"] = "loss"
            self.reasons["selection_metric"] = metric[1]

    def eta(self, mode: str) -> tuple[float, str]:
        """Estimate the seconds of the whole run on two ordinary cores."""
        size = (self.values["image_size"] / self.facts.input_size) ** 2
        forward = 2 * self.facts.gigaops * size / ASSUMED_GIGAFLOPS
        total = self.images + self.val + self.test
        held_out = total - self.images
        passes = total / ASSUMED_DECODES + (total + held_out) * forward
        if mode == "head" and self.values["augmentation"] != "none":
            passes += (VIEWS - 1) * self.images * forward
        elif mode != "head":
            passes += self.values["epochs"] * (3 * self.images + self.val) * forward
        limit = self.values["max_minutes"]
        seconds = passes + 8 if limit is None else min(passes + 8, 60 * limit + 30)
        return round(seconds, 1), "rough estimate for two CPU cores without a GPU"
