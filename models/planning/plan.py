"""Every `auto` of a config turned into a value with its reason: pure, torch-free.

The API's dry run and the trainer call the same function, so the plan shown is the plan run. What
only the running job can measure is marked so and filled in there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.planning import augmentation, estimate, strategy
from models.planning.catalogue import Architecture
from models.planning.defaults import MODES, SMALL_NETWORK, VIEWS, Mode
from topwork.errors import InvalidField
from topwork.types.training import TrainConfig

GIVEN = "as given"
SKEWED = 3.0  # Largest class over smallest from which accuracy hides the small ones.
VERY_SKEWED = 10.0
TRANSFORMERS = ("vit", "swin", "maxvit", "convnext")
SMALL_INPUT = 64
FEW_IMAGES = 5000


@dataclass(frozen=True)
class Plan:
    """What the trainer does in one stage, no `auto` left, with a reason for each value.

    `stage` is `head`, `full` or `gradual`; `mode` the defaults it starts from; `then` the stage
    that follows.
    """

    stage: str
    mode: str
    strategy: str
    weights: str
    image_size: int
    head: str
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
    augmentation_policy: str
    erasing: float
    mixup: float
    cutmix: float
    imbalance: str
    selection_metric: str
    patience: int | None
    batch_norm: str
    ema: float | None
    blocks: int
    block_decay: float
    precision: str | None
    devices: int
    max_minutes: float | None
    eta_seconds: float
    reasons: Mapping[str, str]
    then: "Plan | None" = None
    execution: Mapping[str, Any] | None = None

    def stages(self) -> "list[Plan]":
        """Return the plans of all stages in their order."""
        return [self, *(self.then.stages() if self.then else ())]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return `{name: {"value", "reason"}}` for everything that was decided.

        What a later stage does otherwise is listed as `stage.name`.
        """
        own = {
            name: {"value": getattr(self, name), "reason": reason}
            for name, reason in self.reasons.items()
        }
        later = self.then.to_json() if self.then else {}
        stage = self.then.stage if self.then else ""
        return own | {
            f"{stage}.{name}": entry for name, entry in later.items() if own.get(name) != entry
        }


def resolve(
    config: TrainConfig,
    facts: Architecture,
    summary: Mapping[str, Any],
    parent_size: int | None = None,
) -> Plan:
    """Return the plan for a dataset with this `dataset.json`.

    `parent_size` is the side in pixels that the model of `weights: model:NAME` takes.

    Raises:
        InvalidField: The values contradict each other or the architecture.
    """
    first = _Resolver(config, facts, summary, parent_size).stages()
    sizes = estimate.Sizes(
        *(sum(summary["counts"].get(n, {}).values()) for n in estimate.Sizes._fields)
    )
    every = [vars(one) for one in first.stages()]
    seconds, reason = estimate.seconds(every, facts, sizes)
    return replace(first, eta_seconds=seconds, reasons={**first.reasons, "eta_seconds": reason})


class _Resolver:
    def __init__(
        self,
        config: TrainConfig,
        facts: Architecture,
        summary: Mapping[str, Any],
        parent_size: int | None,
    ) -> None:
        self.config, self.facts, self.parent_size = config, facts, parent_size
        counts: Mapping[str, Mapping[str, int]] = summary["counts"]
        self.classes: list[str] = summary["classes"]
        self.sizes = [counts.get("train", {}).get(name, 0) for name in self.classes]
        self.images = sum(self.sizes)
        self.val = sum(counts.get("val", {}).values())
        self.test = sum(counts.get("test", {}).values())
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def stages(self) -> Plan:
        """Return the plan of the first stage with the others behind it."""
        weights = self.choose("weights", self.config.weights, strategy.auto_weights(self.facts))
        auto = strategy.auto_strategy(weights, self.val)
        chosen = self.choose("strategy", self.config.strategy, auto)
        strategy.refuse_contradictions(self.facts, weights, chosen)
        if chosen == "head":
            augmentation.refuse_mixing(self.config)
        begun = dict(self.values), dict(self.reasons)
        then = None
        for stage in reversed(strategy.stages(chosen, weights)):
            self.values, self.reasons = dict(begun[0]), dict(begun[1])
            then = replace(self.plan(stage), then=then)
        assert then is not None  # noqa: S101 - every strategy has a stage.
        return then

    def plan(self, stage: strategy.Stage) -> Plan:
        mode = MODES[stage.mode]
        self.values |= {"stage": stage.name, "mode": stage.mode}
        asked = self.config.hyperparameters
        self.check_size(self.choose("image_size", asked.image_size, self.auto_size()))
        self.optimisation(mode, stage.mode)
        self.averaging(mode, stage.mode)
        self.selection()
        self.variation(mode, stage.mode)
        self.choose("precision", self.config.precision, (None, "the job measures what is faster"))
        self.devices(self.choose("devices", self.config.devices, (1, "one process")))
        self.values |= {"max_minutes": self.config.limits.max_minutes, "eta_seconds": 0.0}
        return Plan(**self.values, reasons=self.reasons)

    def choose(self, name: str, asked: Any, auto: tuple[Any, str]) -> Any:
        """Take what was asked for, or the automatic value; keep the reason."""
        value, reason = auto if asked == "auto" else (asked, GIVEN)
        self.values[name], self.reasons[name] = value, reason
        return value

    def auto_size(self) -> tuple[int, str]:
        if self.parent_size is not None:
            return self.parent_size, "the size the model to start from was trained at"
        return self.facts.input_size, "the size the network was made for"

    def check_size(self, size: int) -> None:
        least, only = self.facts.min_size, self.facts.input_size
        if size < least or (self.facts.fixed_size and size != only):
            accepts = f"exactly {only}" if self.facts.fixed_size else f"at least {least}"
            raise InvalidField(
                f"{self.facts.name} takes images of {accepts} pixels.",
                param="hyperparameters.image_size",
            )

    def optimisation(self, mode: Mode, name: str) -> None:
        self.choose("head", "auto", head_of(self.facts, name))
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
        if name in ("refine", "gradual") and chosen == "sgd":
            rate = 3e-4, "small steps from a head that is already good"
            decay = 1e-4, "the usual value"
        if name == "scratch" and self.facts.parameters <= SMALL_NETWORK:
            rate = 0.005, "small networks learn faster in larger steps"
            decay = 0.01, "small networks have little to overfit with"
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
        self.choose("batch_norm", "auto", strategy.batch_norm(name, batch, self.images))
        patience = None
        if self.config.early_stopping is not None:
            auto = max(5, epochs // 3), "a third of the epochs, at least 5"
            if name in ("refine", "gradual"):
                auto = max(5, epochs), "few epochs, of which the last and smallest steps are best"
            patience = self.choose("patience", self.config.early_stopping.patience, auto)
        self.values["patience"] = patience

    def averaging(self, mode: Mode, name: str) -> None:
        """Decide what happens to blocks of layers and to the weights of single steps."""
        asked = None if self.config.ema == "off" else self.config.ema
        self.choose("ema", asked, mode.ema)
        self.values |= {"blocks": 0, "block_decay": 1.0}
        if name == "gradual":
            words = "one more learns at a time, from the head backwards; all in the second half"
            self.choose("blocks", "auto", (strategy.BLOCKS, words))
            words = "each block learns at half the rate of the one behind it"
            self.choose("block_decay", "auto", (0.5, words))

    def variation(self, mode: Mode, name: str) -> None:
        usual = augmentation.auto(mode.augmentation, self.classes)
        kind = self.choose("augmentation", self.config.augmentation, usual)
        for field, auto in augmentation.additions(kind, name).items():
            asked = getattr(self.config, field)
            self.choose(field, "auto" if auto == augmentation.UNMIXED else asked, auto)
        if name == "head" and augmentation.any_of(self.values):
            self.reasons["augmentation"] = f"{GIVEN}: the trunk sees {VIEWS} views of each image"

    def auto_batch(self, mode: str) -> tuple[int, str]:
        if mode == "head":
            size = 32 if self.images < FEW_IMAGES else 256
            return size, "small steps for few images, large ones for many"
        if self.facts.input_size <= SMALL_INPUT and self.images >= FEW_IMAGES:
            return 128, "small images, many of them"
        return 32, "noise of small batches helps, and they fit into memory"

    def devices(self, count: int) -> None:
        """Say how several processes share a batch."""
        batch: int = self.values["batch_size"]
        if count == 1:
            return
        least = batch
        if self.images:  # Batches differ by one image at most, and few images make small ones.
            least = self.images // math.ceil(self.images / batch)
        if count * 2 > least:
            raise InvalidField(
                f"{count} devices would share batches of {least}: fewer than two images each.",
                param="devices",
                hint="Ask for fewer devices, or for a larger batch_size if there are the images.",
            )
        part = f"{batch // count} to {-(-batch // count)}" if batch % count else batch // count
        self.reasons["devices"] = f"{GIVEN}; each takes {part} of the {batch} images of a batch"
        if self.values["batch_norm"] == "train":
            self.reasons["batch_norm"] += (
                "; over the whole batch on GPUs, over each process's part on CPUs"
            )

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


def head_of(facts: Architecture, mode: str) -> tuple[str, str]:
    """Return which layer is replaced by one for the dataset's classes, and what that means."""
    others = ", ".join(one.layer for one in facts.auxiliary)
    if mode == "head":
        words = "this layer alone learns; all before it, other linear layers too, stays as it was"
        return facts.head, f"{words}, and {others} are left out" if others else words
    words = "the layer that gives the classes; those before it learn too"
    return facts.head, f"{words}, and so do {others}, which only training uses" if others else words
