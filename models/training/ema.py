"""Exponential moving average (EMA) of the weights: evens out what single steps spoil."""

import copy

import torch
from torch import nn

RAMP = 10  # Early averages forget faster: the first steps would weigh too much otherwise.


class Average:
    """A second copy of a network that follows it slowly.

    Args:
        model: The network that is trained.
        decay: Share of the average that stays in each step, 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self.model.requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after this step, from 1; counters and the like are copied."""
        share = 1 - min(self.decay, step / (RAMP + step))
        now = model.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(now[name], share)
            else:
                mine.copy_(now[name])
