"""How much disk a training run takes at most: one formula, in bytes, for worker and trainer.

The worker knows the architecture and what was asked for, the trainer the network and the plan.
Each gives its two sizes: what is trained, and all that the finished model stores.
"""

from models.planning.catalogue import Architecture
from models.planning.plan import Plan

KEPT_CHECKPOINTS = 2
SMALL_FILES = 32 << 20  # Reports, logs and what else is small.
MOMENTS = {"lbfgs": 0, "sgd": 1, "adamw": 2}  # Numbers that an optimiser keeps for each weight.
MOST_COPIES = 4  # Weights, average and two moments.
FLOAT_BYTES = 4
CLASSES = 1000  # As many as the catalogue counts; more, at 120 KB each, are left to the reserve.
BUFFERS = 1.02  # What normalisation keeps beside the parameters.
AUXILIARY = 2.0  # The catalogue leaves these heads out; GoogLeNet's are as large as all the rest.


def of_run(trained: float, whole: float, copies: int) -> int:
    """Return the bytes that checkpoints and result take at most at the same time.

    These are the checkpoints that are kept, one being written, the best weights twice for the
    same reason, and the finished model.

    Args:
        trained: Bytes of the weights that are trained.
        whole: Bytes of the finished model.
        copies: How often a checkpoint holds the trained weights, as `copies_in_checkpoint` tells.
    """
    return int(((KEPT_CHECKPOINTS + 1) * copies + 2) * trained + whole) + SMALL_FILES


def copies_in_checkpoint(plan: Plan) -> int:
    """Return how often: the weights, their average and the optimiser's moments."""
    return 1 + (plan.ema is not None) + MOMENTS.get(plan.optimizer, 2)


def foreseen(facts: Architecture, strategy: str | None) -> int:
    """Return `of_run` for the dearest plan of an architecture, before there is a plan."""
    head = FLOAT_BYTES * CLASSES * (facts.feature_shape[0] + 1)
    whole = weights_of(facts)
    return of_run(head if strategy == "head" else whole, whole, MOST_COPIES)


def of_artefact(facts: Architecture) -> int:
    """Return the bytes of a trained model."""
    return int(weights_of(facts)) + SMALL_FILES


def weights_of(facts: Architecture) -> float:
    """Return the bytes of a network's tensors at most, its auxiliary heads included."""
    return FLOAT_BYTES * facts.parameters * (AUXILIARY if facts.auxiliary else BUFFERS)
