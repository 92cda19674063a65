"""The defaults of each way to train, as data with reasons; torch-free."""

from dataclasses import dataclass, replace

VIEWS = 4  # Of each image through a frozen trunk when augmentation is asked for.
SMALL_NETWORK = 500_000  # Parameters up to which a network from scratch takes larger steps.


@dataclass(frozen=True)
class Mode:
    """Defaults of one way to train: (value, reason) each."""

    optimizer: tuple[str, str]
    learning_rate: tuple[float, str]
    trunk_factor: tuple[float, str]
    weight_decay: tuple[float | None, str]
    momentum: tuple[float, str]
    warmup: tuple[float, str]  # As a share of all epochs.
    label_smoothing: tuple[float, str]
    augmentation: tuple[str, str]
    ema: tuple[float | None, str]  # Decay of a running average of the weights; None: no average.
    steps: int  # Optimiser steps that are usually enough.
    epochs: tuple[int, int]  # Fewest and most epochs whatever the number of steps.


_NO_AVERAGE = (None, "the rate falls to zero, which averages as well")
_SAME_RATE = (1.0, "every layer learns at the same rate")
MODES = {
    "head": Mode(
        optimizer=("adamw", "converges on standardised features within a second"),
        learning_rate=(0.003, "safe for a linear layer on standardised features"),
        trunk_factor=_SAME_RATE,
        weight_decay=(None, "chosen by cross-validation on the training features"),
        momentum=(0.9, "the optimiser's default"),
        warmup=(0.1, "a tenth of the epochs"),
        label_smoothing=(0.0, "a regularised linear head needs none to stay calibrated"),
        augmentation=("none", "the frozen trunk sees each image once"),
        ema=_NO_AVERAGE,
        steps=1000,
        epochs=(20, 60),
    ),
    "tune": Mode(
        optimizer=("sgd", "the usual choice for convolutional networks"),
        learning_rate=(0.01, "the new head may learn fast"),
        trunk_factor=(0.1, "pretrained layers change ten times slower than the new head"),
        weight_decay=(1e-4, "the usual value"),
        momentum=(0.9, "the usual value"),
        warmup=(0.15, "the new head settles before the trunk moves much"),
        label_smoothing=(0.1, "guards against overconfidence"),
        augmentation=("standard", "photographs keep their meaning when cropped and mirrored"),
        ema=_NO_AVERAGE,
        steps=1500,
        epochs=(5, 15),
    ),
    "scratch": Mode(
        optimizer=("adamw", "needs least tuning from random weights"),
        learning_rate=(0.002, "peak that small networks reach without diverging"),
        trunk_factor=_SAME_RATE,
        weight_decay=(0.05, "decoupled decay of AdamW"),
        momentum=(0.9, "the optimiser's default"),
        warmup=(0.2, "random weights start gently"),
        label_smoothing=(0.0, "trained from scratch on all there is"),
        augmentation=("standard", "what is mirrored and shifted a little keeps its meaning"),
        ema=_NO_AVERAGE,
        steps=15_000,
        epochs=(20, 60),
    ),
    # From a head that was trained on the frozen trunk: small steps, nothing to unlearn.
    "refine": Mode(
        optimizer=("adamw", "its steps are bounded: with kept statistics SGD's can run away"),
        learning_rate=(5e-5, "small steps from a head that is already good"),
        trunk_factor=(1.0, "the head is trained: every layer learns at the same low rate"),
        weight_decay=(0.05, "decoupled decay of AdamW"),
        momentum=(0.9, "the optimiser's default"),
        warmup=(0.1, "a tenth of the epochs"),
        label_smoothing=(0.0, "the head was trained without"),
        augmentation=("standard", "photographs keep their meaning when cropped and mirrored"),
        ema=(0.9, "on few images single steps are noisy; their average is what is validated"),
        steps=400,
        epochs=(3, 8),
    ),
}
MODES["gradual"] = replace(
    MODES["refine"],
    trunk_factor=(1.0, "the block next to the head learns as fast as the head"),
    steps=800,
    epochs=(6, 12),
)
