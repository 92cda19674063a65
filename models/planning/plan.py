"""Every `auto` of a config turned into a value with its reason: pure, torch-free.

The API's dry run and the trainer call the same function, so the plan shown is the plan run. What
only the running job can measure is marked so and filled in there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.planning import defaults, estimate, rules, strategy
from models.planning.catalogue import Architecture
from models.planning.contradictions import CONTRADICTIONS
from models.planning.draft import Draft
from topwork.types.training import TrainConfig

_GIVEN = ("stage", "mode", "reasons")  # By the draft of a stage, besides what rules decide.


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
    fit: str
    refit: bool
    image_size: int
    sixteen_bit: str
    white: int | None
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
    canvas: int | None
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

    def revised(self, field: str, value: Any, reason: str) -> "Plan":
        """Return the plan with what has become of a field, and why."""
        return replace(self, **{field: value}, reasons={**self.reasons, field: reason})

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
    architecture: Architecture,
    summary: Mapping[str, Any],
    parent_size: int | None = None,
    parent_fit: str = "crop",
) -> Plan:
    """Return the plan for a dataset with this `dataset.json`.

    `parent_size` is the side in pixels that the model of `weights: model:NAME` takes, `parent_fit`
    how it sees images.

    Raises:
        InvalidField: The values contradict each other or the architecture.
    """
    draft = Draft(config, architecture, summary, parent_size, parent_fit)
    rules.decide(draft, strategy.RULES)
    stages: list[Plan] = []
    for stage in reversed(strategy.stages(draft.strategy, draft.weights)):
        then = stages[0] if stages else None
        stages.insert(0, _planned(draft.of(stage.name, stage.mode), then))
    seconds, reason = estimate.seconds([*map(vars, stages)], architecture, draft.images)
    return stages[0].revised("eta_seconds", seconds, reason)


def _planned(draft: Draft, then: Plan | None) -> Plan:
    """Return the plan of the stage of a draft."""
    rules.decide(draft, defaults.STAGE)
    rules.refuse(draft, CONTRADICTIONS)
    decided = {name: vars(draft)[name] for name in (*_GIVEN, *strategy.RULES, *defaults.STAGE)}
    minutes = draft.config.limits.max_minutes
    return Plan(**decided, max_minutes=minutes, eta_seconds=0.0, then=then)
