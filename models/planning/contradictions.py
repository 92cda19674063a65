"""Contradictions: what cannot be asked for together, the first one that holds; torch-free."""

from models.planning import conditions as when
from models.planning.rules import Condition, Contradiction
from models.planning.strategy import NO_HEAD

_SIZE = "hyperparameters.image_size"
_MIXED = "A frozen trunk sees no mixed images, as its features are computed once."
_TRAIN_MORE = 'Use "strategy": "full" to train on mixed images.'

_REFIT = Condition(lambda draft: draft.refit)
_HEAD_ALONE = Condition(lambda draft: draft.strategy == "head")
_ON_A_HEAD = Condition(lambda draft: draft.strategy in ("head", "gradual"))
_FIXED_SIZE = Condition(lambda draft: draft.architecture.fixed_size)
_OTHER_SIZE = Condition(lambda draft: draft.image_size != draft.architecture.input_size)
_TOO_SMALL = Condition(lambda draft: draft.image_size < draft.architecture.min_size)
_SINGLE = Condition(lambda draft: draft.batch_size == 1)
_ALONE = Condition(lambda draft: draft.devices * 2 > draft.smallest_batch)


def _mixed(field: str) -> Condition:
    return Condition(lambda draft: draft.asked(field) not in ("auto", 0))


CONTRADICTIONS = (
    Contradiction(
        when.PRETRAINED & when.UNPUBLISHED,
        "There are no pretrained weights for {draft.architecture.name}.",
        "weights",
        'Use "weights": "none" to train from scratch.',
    ),
    Contradiction(
        when.RANDOM & _ON_A_HEAD,
        "A head on a random trunk learns next to nothing.",
        "strategy",
        'Use "strategy": "full" to train from scratch.',
    ),
    Contradiction(
        NO_HEAD & _REFIT,
        "Only a head on a frozen trunk is fitted again on the validation images.",
        "refit",
        'Use "strategy": "head", or leave "refit" out.',
    ),
    Contradiction(_HEAD_ALONE & _mixed("mixup"), _MIXED, "mixup", _TRAIN_MORE),
    Contradiction(_HEAD_ALONE & _mixed("cutmix"), _MIXED, "cutmix", _TRAIN_MORE),
    Contradiction(
        _FIXED_SIZE & _OTHER_SIZE,
        "{draft.architecture.name} takes images of exactly {draft.architecture.input_size} pixels.",
        _SIZE,
    ),
    Contradiction(
        _TOO_SMALL,
        "{draft.architecture.name} takes images of at least {draft.architecture.min_size} pixels.",
        _SIZE,
    ),
    Contradiction(
        when.SCRATCH & _SINGLE,
        "Training from scratch needs at least two images in a batch.",
        "hyperparameters.batch_size",
    ),
    Contradiction(
        when.SHARED & _ALONE,
        "{draft.devices} devices would share batches of {draft.smallest_batch}:"
        " fewer than two images each.",
        "devices",
        "Ask for fewer devices, or for a larger batch_size if there are the images.",
    ),
)
