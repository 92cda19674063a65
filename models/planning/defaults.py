"""The recipe of a stage: a rule for every automatic value, with its reason; torch-free."""

import math
from collections.abc import Callable, Mapping

from models.planning import augmentation, views
from models.planning import conditions as when
from models.planning.draft import Draft
from models.planning.rules import ELSE, GIVEN, Condition, Rule

BLOCKS = 4
_FOR_BATCHES = "small steps for few images, large ones for many"
_GOOD_HEAD = "small steps from a head that is already good"
_SKEW = "the largest class has {draft.skew:.1f} times the images of the smallest"
_SHARED = GIVEN + "; each takes {draft.share} of the {draft.batch_size} images of a batch"
_ALONE = "this layer alone learns; all before it, other linear layers too, stays as it was"
_NOT_ALONE = "the layer that gives the classes; those before it learn too"


def _layer(draft: Draft) -> str:
    return draft.architecture.head


def _epochs(condition: Condition, steps: int, fewest: int, most: int) -> Rule:
    """Return the rule of epochs that come to about so many optimiser steps."""
    reason = f"about {steps} steps of {{draft.steps}} an epoch, between {fewest} and {most} epochs"
    return Rule(condition, lambda d: min(max(math.ceil(steps / d.steps), fewest), most), reason)


def _warmup(share: float) -> Callable[[Draft], float]:
    return lambda draft: round(share * draft.epochs, 3)


STAGE: Mapping[str, tuple[Rule, ...]] = {
    "image_size": (
        Rule(
            when.FROM_A_MODEL,
            lambda d: d.parent_size,
            "the size the model to start from was trained at",
        ),
        Rule(ELSE, lambda d: d.architecture.input_size, "the size the network was made for"),
    ),
    "sixteen_bit": (
        Rule(when.NO_WIDE, "declared"),
        Rule(
            when.UNUSED_RANGE,
            "range",
            "no sample of {draft.wide[images]} pictures of more than 8 bits exceeds"
            " {draft.wide[largest]} of {draft.wide[white]}: white is {draft.used_white}",
        ),
        Rule(ELSE, "declared", "pictures of more than 8 bits use the range that they state"),
    ),
    "white": (
        Rule(when.BY_RANGE, lambda d: d.used_white),
        Rule(ELSE, None),
    ),
    "head": (
        Rule(when.HEAD & when.AUXILIARY, _layer, _ALONE + ", and {draft.auxiliary} are left out"),
        Rule(when.HEAD, _layer, _ALONE),
        Rule(
            when.AUXILIARY,
            _layer,
            _NOT_ALONE + ", and so do {draft.auxiliary}, which only training uses",
        ),
        Rule(ELSE, _layer, _NOT_ALONE),
    ),
    "batch_size": (
        Rule(when.CONVEX, 32),
        Rule(when.HEAD & when.FEW, 32, _FOR_BATCHES),
        Rule(when.HEAD, 256, _FOR_BATCHES),
        Rule(when.ICONS & when.MANY, 128, "small images, many of them"),
        Rule(ELSE, 32, "noise of small batches helps, and they fit into memory"),
    ),
    "epochs": (
        Rule(when.CONVEX, 1),
        _epochs(when.HEAD, 1000, 20, 60),
        _epochs(when.TUNE, 1500, 5, 15),
        _epochs(when.SCRATCH, 15_000, 20, 60),
        _epochs(when.REFINE, 400, 3, 8),
        _epochs(when.GRADUAL, 800, 6, 12),
    ),
    "optimizer": (
        Rule(
            when.CONVEX,
            "lbfgs",
            "the loss of a linear head is convex: it is followed to its one optimum, without steps"
            " of a given length",
        ),
        Rule(when.HEAD, "adamw", "converges on standardised features within a second"),
        Rule(when.TUNE & when.TRANSFORMER, "adamw", "this family is trained with AdamW"),
        Rule(when.TUNE, "sgd", "the usual choice for convolutional networks"),
        Rule(when.SCRATCH, "adamw", "needs least tuning from random weights"),
        Rule(ELSE, "adamw", "its steps are bounded: with kept statistics SGD's can run away"),
    ),
    "learning_rate": (
        Rule(when.CONVEX, 0.0),
        Rule(when.HEAD, 0.003, "safe for a linear layer on standardised features"),
        Rule(when.TUNE & when.ADAMW, 0.001, "the usual peak for AdamW on a new head"),
        Rule(when.TUNE, 0.01, "the new head may learn fast"),
        Rule(when.SCRATCH & when.SGD, 0.02, "the usual peak for SGD without large batches"),
        Rule(when.SCRATCH & when.SMALL, 0.005, "small networks learn faster in larger steps"),
        Rule(when.SCRATCH, 0.002, "peak that small networks reach without diverging"),
        Rule(when.SGD, 3e-4, _GOOD_HEAD),
        Rule(ELSE, 5e-5, _GOOD_HEAD),
    ),
    "trunk_factor": (
        Rule(when.TUNE, 0.1, "pretrained layers change ten times slower than the new head"),
        Rule(when.REFINE, 1.0, "the head is trained: every layer learns at the same low rate"),
        Rule(when.GRADUAL, 1.0, "the block next to the head learns as fast as the head"),
        Rule(ELSE, 1.0, "every layer learns at the same rate"),
    ),
    "weight_decay": (
        Rule(when.CONVEX, None, "a penalty on squared weights, chosen by cross-validation"),
        Rule(when.HEAD, 3.0, "a usual value for a head"),
        Rule(when.SCRATCH & when.SGD, 5e-4, "the usual value for SGD from scratch"),
        Rule(when.SCRATCH & when.SMALL, 0.01, "small networks have little to overfit with"),
        Rule(when.SGD, 1e-4, "the usual value"),
        Rule(ELSE, 0.05, "decoupled decay of AdamW"),
    ),
    "momentum": (
        Rule(when.CONVEX, 0.0),
        Rule(when.TUNE, 0.9, "the usual value"),
        Rule(ELSE, 0.9, "the optimiser's default"),
    ),
    "schedule": (
        Rule(when.CONVEX, "constant"),
        Rule(ELSE, "onecycle", "rises, then falls to zero"),
    ),
    "warmup_epochs": (
        Rule(when.CONVEX, 0.0),
        Rule(when.TUNE, _warmup(0.15), "the new head settles before the trunk moves much"),
        Rule(when.SCRATCH, _warmup(0.2), "random weights start gently"),
        Rule(ELSE, _warmup(0.1), "a tenth of the epochs"),
    ),
    "label_smoothing": (
        Rule(when.HEAD, 0.0, "a regularised linear head needs none to stay calibrated"),
        Rule(when.TUNE, 0.1, "guards against overconfidence"),
        Rule(when.SCRATCH, 0.0, "trained from scratch on all there is"),
        Rule(ELSE, 0.0, "the head was trained without"),
    ),
    "batch_norm": (
        Rule(when.SCRATCH, "train", "random weights come without statistics{draft.over_processes}"),
        Rule(when.HEAD, "frozen", "the trunk is frozen, its statistics too"),
        Rule(
            when.SMALL_BATCHES, "frozen", f"batches below {when.SMALL_BATCH} give poor statistics"
        ),
        Rule(
            when.AFTER_HEAD & when.FEW,
            "frozen",
            "ImageNet's statistics are better than those of {draft.images.train} images, and the"
            " head was fitted to them",
        ),
        Rule(
            ELSE, "train", "batches are large enough for their own statistics{draft.over_processes}"
        ),
    ),
    "patience": (
        Rule(when.NO_STOPPING, None),
        Rule(
            when.HEAD,
            None,
            "a head has one optimum, which its last and smallest steps come closest to",
            binding=True,
        ),
        Rule(
            when.AFTER_HEAD,
            lambda d: max(5, d.epochs),
            "few epochs, of which the last and smallest steps are best",
        ),
        Rule(ELSE, lambda d: max(5, d.epochs // 3), "a third of the epochs, at least 5"),
    ),
    "ema": (
        Rule(when.NO_AVERAGE, None, GIVEN, binding=True),
        Rule(
            when.AFTER_HEAD,
            0.9,
            "on few images single steps are noisy; their average is what is validated",
        ),
        Rule(ELSE, None, "the rate falls to zero, which averages as well"),
    ),
    "blocks": (
        Rule(
            when.GRADUAL,
            BLOCKS,
            "one more learns at a time, from the head backwards; all in the second half",
        ),
        Rule(ELSE, 0),
    ),
    "block_decay": (
        Rule(when.GRADUAL, 0.5, "each block learns at half the rate of the one behind it"),
        Rule(ELSE, 1.0),
    ),
    "selection_metric": (
        Rule(
            when.UNVALIDATED & when.BY_A_SCORE,
            "loss",
            "there are no validation images, so the training loss decides",
            binding=True,
        ),
        Rule(when.UNEVEN, "macro_f1", _SKEW),
        Rule(ELSE, "accuracy", _SKEW),
    ),
    "imbalance": (
        Rule(when.VERY_UNEVEN, "logit_adjustment", _SKEW),
        Rule(ELSE, "none", _SKEW),
    ),
    **augmentation.RULES,
    **views.RULES,
    "precision": (Rule(ELSE, None, "the job measures what is faster"),),
    "devices": (
        Rule(when.SHARED, lambda d: d.asked("devices"), _SHARED, binding=True),
        Rule(ELSE, 1, "one process"),
    ),
}
