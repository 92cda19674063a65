"""Which layers to train, and from what weights: pure, torch-free."""

from core.errors import InvalidField
from models.catalogue import Architecture
from models.config import TrainConfig


def auto_weights(facts: Architecture) -> tuple[str, str]:
    """Return the weights to start from when none were named, and why."""
    if facts.weights is None:
        return "none", f"nobody publishes pretrained weights for {facts.name}"
    return "imagenet", "features learned on ImageNet carry over to most photographs"


def auto_strategy(weights: str) -> tuple[str, str]:
    """Return what to train when nothing was asked for, and why."""
    if weights == "none":
        return "full", "random weights have to be trained in every layer"
    return "head", "a new head on a frozen pretrained trunk trains in one pass over the images"


def mode_of(strategy: str, weights: str) -> str:
    """Return the name of the defaults that a strategy on these weights starts from."""
    return "head" if strategy == "head" else "scratch" if weights == "none" else "tune"


def refuse_contradictions(
    config: TrainConfig, facts: Architecture, weights: str, strategy: str
) -> None:
    """Raise InvalidField where weights and strategy cannot go together."""
    if weights == "imagenet" and facts.weights is None:
        raise InvalidField(
            f"There are no pretrained weights for {facts.name}.",
            param="weights",
            hint='Use "weights": "none" to train from scratch.',
        )
    if strategy != "full" and config.devices not in ("auto", 1):
        raise InvalidField(
            f"The strategy {strategy} trains in one process; {config.devices} were asked for.",
            param="devices",
            hint='Leave it out, or use "strategy": "full".',
        )
    if weights == "none" and strategy == "head":
        raise InvalidField(
            "A head on a random trunk learns next to nothing.",
            param="strategy",
            hint='Use "strategy": "full" to train from scratch.',
        )
