"""The stated set of configurations whose plans must stay what they are.

For each architecture `COUNT` configurations are drawn from OPTIONS, each field by a hash of its
own, so that every option meets most others and the set depends on no generator. Contradictions are
among them on purpose.

`python -m tests.models.planning.configurations` writes `plans.json` anew, where the recipe is meant
to change.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from models.planning import catalogue
from models.planning.plan import Plan, resolve
from topwork.errors import TopworkError
from topwork.types.training import TrainConfig

FILE = Path(__file__).with_name("plans.json")
COUNT = 32
EVERY, SHOWN = 8, 3  # Of every eighth architecture three outcomes are kept in full.
OPTIONS: dict[str, list[Any]] = {
    "strategy": ["auto", "head", "full", "gradual"],
    "weights": ["auto", "auto", "imagenet", "none", "model:pets@3"],
    "selection_metric": ["auto", "auto", "accuracy", "macro_f1", "loss"],
    "imbalance": ["auto", "auto", "none", "weighted_sampling", "logit_adjustment"],
    "augmentation": ["auto", "auto", "auto", "none", "light", "standard", "strong"],
    "fit": ["auto", "auto", "auto", "crop", "pad", "squash"],
    "augmentation_policy": ["auto", "auto", "auto", "none", "rand_augment"],
    "erasing": ["auto", "auto", "auto", 0, 0.1],
    "mixup": ["auto", "auto", "auto", "auto", 0, 0.2],
    "cutmix": ["auto", "auto", "auto", "auto", 0, 1.0],
    "label_smoothing": ["auto", "auto", 0.05],
    "ema": ["auto", "auto", "off", 0.99],
    "refit": ["auto", "auto", "auto", False, True],
    "early_stopping": [{}, {}, None, {"patience": 3}],
    "limits": [{}, {}, {"max_minutes": 10}],
    "precision": ["auto", "auto", "fp32", "bf16"],
    "devices": ["auto", "auto", "auto", "auto", 1, 2, 5],
}
# Of about every third configuration these alone are drawn.
PLAIN = ("strategy", "weights", "refit", "imbalance", "limits")
NUMBERS: dict[str, list[Any]] = {
    "epochs": ["auto", "auto", "auto", 1, 7, 40],
    "batch_size": ["auto", "auto", "auto", 1, 8, 33, 256],
    "learning_rate": ["auto", "auto", "auto", 0.01],
    "trunk_factor": ["auto", "auto", "auto", 0.5],
    "weight_decay": ["auto", "auto", "auto", 0.0, 0.02],
    "momentum": ["auto", "auto", "auto", 0.8],
    "optimizer": ["auto", "auto", "sgd", "adamw"],
    "schedule": ["auto", "auto", "cosine", "constant"],
    "warmup_epochs": ["auto", "auto", "auto", 0.5],
    "image_size": ["auto", "auto", "auto", "auto", "auto", 16, 64, 224],
}


def _named(
    train: dict[str, int],
    val: int = 0,
    test: int = 0,
    drawn: Sequence[str] = (),
    **seen: dict[str, Any],
) -> dict[str, Any]:
    counts = {"train": {name: size for name, size in train.items() if size}}
    counts |= {"val": dict.fromkeys(train, val)} if val else {}
    counts |= {"test": dict.fromkeys(train, test)} if test else {}
    return {"classes": list(train), "counts": counts, "drawn": list(drawn), **seen}


# Of `dataset.json`: even and skewed, tiny and large, with few or no validation images, with an
# absent class, with splits that were drawn, with small or long images, with samples of more than 8
# bits that use their range and that do not, with names that forbid mirroring, and a dry run that
# knows nothing.
LONG = {"largest": 548, "elongated": 300, "unseen": 0.7}
BRIGHT = {"images": 3, "largest": 65000, "white": 65535}
FEW_LONG = {"largest": 3000, "elongated": 2, "unseen": 0.61}
DATASETS: list[dict[str, Any]] = [
    _named({"ants": 120, "bees": 124}, 76, shapes={"largest": 500, "elongated": 0, "unseen": 0.0}),
    _named({"ants": 1, "bees": 1}, sixteen_bit={"images": 2, "largest": 4000, "white": 65535}),
    _named({"cat": 400, "dog": 100, "owl": 260}, 9, 4, ["val"], sixteen_bit=BRIGHT),
    _named({"rare": 20, "usual": 1000}, 40, shapes=LONG),
    _named({str(digit): 6000 for digit in range(10)}, 1000),
    _named({"plane": 2500, "ship": 2500}, 500, 500, ["test", "val"], shapes={"largest": 96}),
    _named({"turn left": 30, "turn right": 40}, 5, shapes=FEW_LONG),
    _named({"absent": 0, "down": 6, "up": 7}, 10),
    _named({f"c{number:03}": 3 for number in range(200)}, 1),
    {"classes": [], "counts": {}},
]
PARENT_SIZES = [None, 160, 32]


@dataclass(frozen=True)
class Configuration:
    """All that a plan follows from."""

    architecture: str
    config: dict[str, Any]
    dataset: int
    parent_size: int | None

    def outcome(self) -> list[Any]:
        """Return every field of each stage's plan, or the error, as JSON."""
        asked = TrainConfig.model_validate({"architecture": self.architecture, **self.config})
        facts = catalogue.get(self.architecture)
        try:
            plan = resolve(asked, facts, DATASETS[self.dataset], self.parent_size)
        except TopworkError as error:
            return ["error", error.to_dict()]
        return [listed(stage) for stage in plan.stages()]


def listed(plan: Plan) -> dict[str, Any]:
    """Return the fields of one stage; its reasons as pairs, as users see them in their order."""
    own = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name != "then"}
    return {**own, "reasons": [*plan.reasons.items()]}


def digest(outcome: list[Any]) -> str:
    """Return what differs when anything in an outcome does."""
    text = json.dumps(outcome, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def lines(outcome: list[Any]) -> list[str]:
    """Write an outcome out: each field with its reason, of a later stage those that differ."""
    if outcome[0] == "error":
        return [f"{name}: {value}" for name, value in outcome[1].items()]
    written: list[str] = []
    for stage in outcome:
        reasons = dict(stage.pop("reasons"))
        every = [f"{name} = {value}: {reasons.get(name)}" for name, value in stage.items()]
        written += [line for line in every if line not in written]
    return written


def configurations(
    architecture: str, count: int = COUNT, salt: str = ""
) -> Iterator[Configuration]:
    """Yield the configurations of one architecture."""
    for number in range(count):

        def draw(name: str, options: list[Any], number: int = number) -> Any:
            seed = hashlib.sha256(f"{salt}{architecture} {number} {name}".encode()).digest()
            return options[int.from_bytes(seed[:8]) % len(options)]

        plain = draw("plain", [True, False, False])
        names = PLAIN if plain else OPTIONS
        config = {name: draw(name, OPTIONS[name]) for name in names}
        if not plain:
            config["hyperparameters"] = {name: draw(name, some) for name, some in NUMBERS.items()}
        dataset = draw("dataset", [*range(len(DATASETS))])
        yield Configuration(architecture, config, dataset, draw("parent", PARENT_SIZES))


def golden() -> dict[str, Any]:
    """Return the digest of every outcome by architecture, and some outcomes in full."""
    outcomes = {name: [one.outcome() for one in configurations(name)] for name in catalogue.names()}
    digests = {name: " ".join(map(digest, some)) for name, some in outcomes.items()}
    shown = catalogue.names()[::EVERY]
    full = {name: [lines(outcome) for outcome in outcomes[name][:SHOWN]] for name in shown}
    return {"digests": digests, "outcomes": full}


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
