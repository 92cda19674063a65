"""Conditions on which a rule of the recipe may depend, each under a name; torch-free."""

from models.planning.draft import AUTO, Draft
from models.planning.rules import Condition

SKEWED, VERY_SKEWED = 3.0, 10.0  # Largest class over smallest: accuracy hides the small ones.
TRANSFORMERS = ("vit", "swin", "maxvit", "convnext")
SMALL_INPUT = 64
SMALL_NETWORK = 500_000  # Parameters up to which a network from scratch takes larger steps.
FEW_IMAGES = 5000  # Fewer also estimate worse statistics than ImageNet's are.
SMALL_BATCH = 16


VARIED = ("augmentation", "augmentation_policy", "erasing")  # What changes single images.


def augmentation_asked_for(draft: Draft) -> bool:
    """Tell whether somebody wants images changed."""
    return any(draft.asked(field) not in (AUTO, "none", 0) for field in VARIED)


def mode(*names: str) -> Condition:
    """Return the condition that a stage starts from one of these modes."""
    return Condition(lambda draft: draft.mode in names)


# What a stage starts from: a head on a frozen pretrained trunk; all of a pretrained network with a
# new head; random weights; a head that was trained on the frozen trunk, to refine every layer, or
# gradually one block more.
HEAD, TUNE, SCRATCH = mode("head"), mode("tune"), mode("scratch")
REFINE, GRADUAL, AFTER_HEAD = mode("refine"), mode("gradual"), mode("refine", "gradual")

# Of pictures of more than 8 bits none has a sample above a quarter of white: 12 bits in 16.
UNUSED_RANGE = Condition(lambda draft: 4 * draft.wide.get("largest", 0) <= draft.wide["white"])
BY_RANGE = Condition(lambda draft: bool(draft.wide) and draft.sixteen_bit == "range")
NO_WIDE = Condition(lambda draft: not draft.wide)
FROM_A_MODEL = Condition(lambda draft: draft.parent_size is not None)
RANDOM = Condition(lambda draft: draft.weights == "none")
PRETRAINED = Condition(lambda draft: draft.weights == "imagenet")
UNPUBLISHED = Condition(lambda draft: draft.architecture.weights is None)
AUXILIARY = Condition(lambda draft: bool(draft.architecture.auxiliary))
ICONS = Condition(lambda draft: draft.architecture.input_size <= SMALL_INPUT)
SMALL = Condition(lambda draft: draft.architecture.parameters <= SMALL_NETWORK)
TRANSFORMER = Condition(lambda draft: draft.architecture.family.startswith(TRANSFORMERS))

# A linear layer on fixed features, small enough to be fitted to its optimum in some seconds, where
# nobody has asked for steps, for other images than the plain ones or for several processes.
STEPS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "momentum",
    "optimizer",
    "schedule",
    "warmup_epochs",
)
MOST_FEATURES = 50_000_000
# Of one pass: images x features x classes. Four operations each, at 8 penalties in 20 passes, are
# the 4e11 that the head's search may take (`models.training.linear_head`).
MOST_PRODUCTS = 6e8


def _convex(draft: Draft) -> bool:
    width, classes, images = draft.architecture.feature_shape[0], len(draft.classes), draft.images
    numbers = width * (images.train + images.val)
    return (
        draft.mode == "head"
        and len(draft.architecture.feature_shape) == 1
        and all(draft.asked(field) == AUTO for field in STEPS)
        and draft.asked("devices") in (AUTO, 1)
        and draft.asked("ema") in (AUTO, "off")
        and draft.asked("imbalance") != "weighted_sampling"
        and not augmentation_asked_for(draft)
        and numbers <= MOST_FEATURES
        and numbers * classes <= MOST_PRODUCTS
    )


CONVEX = Condition(_convex)

FEW = Condition(lambda draft: draft.images.train < FEW_IMAGES)
MANY = Condition(lambda draft: draft.images.train >= FEW_IMAGES)
UNEVEN = Condition(lambda draft: draft.skew >= SKEWED)
VERY_UNEVEN = Condition(lambda draft: draft.skew >= VERY_SKEWED)
UNVALIDATED = Condition(lambda draft: not draft.images.val)
SIDED = Condition(lambda draft: draft.sided is not None)

SGD = Condition(lambda draft: draft.optimizer == "sgd")
ADAMW = Condition(lambda draft: draft.optimizer == "adamw")
SMALL_BATCHES = Condition(lambda draft: draft.batch_size < SMALL_BATCH)
NO_STOPPING = Condition(lambda draft: draft.config.early_stopping is None)
NO_AVERAGE = Condition(lambda draft: draft.config.ema == "off")
BY_A_SCORE = Condition(lambda draft: draft.config.selection_metric != "loss")
SHARED = Condition(lambda draft: draft.asked("devices") not in (AUTO, 1))
