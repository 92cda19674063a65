"""From logits to the confidences that are served."""

import torch
from torch import Tensor


def probabilities(logits: Tensor, temperature: float = 1.0, ceiling: float = 1.0) -> Tensor:
    """Return the confidences of logits (n, classes), n x classes in float64, on the CPU.

    They are the softmax of logits / temperature, mixed with as much of the uniform answer as lets
    none exceed the ceiling, 0..1. Both leave the classes in their order.
    """
    plain = torch.softmax(logits.detach().cpu().double() / temperature, dim=-1)
    classes = plain.shape[-1]
    if ceiling >= 1 or classes < 2:  # noqa: PLR2004 - a single class is certain.
        return plain
    uniform = (1 - ceiling) / (1 - 1 / classes)
    return plain * (1 - uniform) + uniform / classes
