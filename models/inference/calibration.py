"""From logits to the confidences that are served."""

import torch
from torch import Tensor


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the softmax of logits / temperature over the last axis in float64, on the CPU."""
    return torch.softmax(logits.detach().cpu().double() / temperature, dim=-1)
