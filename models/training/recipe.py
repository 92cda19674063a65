"""From the plan's values to an optimiser, a schedule and a loss."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.plan import Plan

Loss = Callable[[Tensor, Tensor], Tensor]
_ONECYCLE_START, _ONECYCLE_END = 1 / 25, 1e-5
_WARMUP_START = 0.01


def optimizer(plan: Plan, model: nn.Module, heads: tuple[str, ...]) -> torch.optim.Optimizer:
    """Return the optimiser over groups of (head or trunk) x (decayed or not).

    Each group carries `factor`, its share of the scheduled learning rate. Biases, normalisation
    layers and other vectors are not decayed: it would only shrink what has no direction.
    """
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = []
    for in_head in (True, False):
        for decayed in (True, False):
            members = [
                value
                for name, value in named
                if _within(name, heads) is in_head and (value.dim() > 1) is decayed
            ]
            if members:
                factor = 1.0 if in_head else plan.trunk_factor
                decay = (plan.weight_decay or 0.0) if decayed else 0.0
                groups.append({"params": members, "factor": factor, "weight_decay": decay})
    rate, momentum = plan.learning_rate, plan.momentum
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW(groups, rate, betas=(momentum, 0.999), fused=True)


def rate_at(plan: Plan, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, from 0; a pure function, so nothing needs resuming."""
    total = max(1, plan.epochs * steps_per_epoch)
    warmup = min(plan.warmup_epochs * steps_per_epoch, total - 1)
    if step < warmup:
        start = _ONECYCLE_START if plan.schedule == "onecycle" else _WARMUP_START
        return plan.learning_rate * _cosine(start, 1.0, step / warmup)
    if plan.schedule == "constant":
        return plan.learning_rate
    end = _ONECYCLE_END if plan.schedule == "onecycle" else 0.0
    return plan.learning_rate * _cosine(1.0, end, (step - warmup) / (total - warmup))


def set_rate(optim: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the scheduled rate."""
    for group in optim.param_groups:
        group["lr"] = rate * group["factor"]


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return for each image the inverse size of its class, float64 (n,)."""
    counts = torch.bincount(labels, minlength=classes).double()
    return 1 / counts[labels]


def loss(plan: Plan, labels: Tensor, classes: int, device: str) -> Loss:
    """Return the training loss over (logits, labels).

    Logit adjustment adds the logarithm of each class's share during training only, so that the
    plain logits rank classes as if all were equally frequent (arXiv:2007.07314).
    """
    shift = torch.zeros(classes, device=device)
    if plan.imbalance == "logit_adjustment":
        counts = torch.bincount(labels, minlength=classes).float().clamp(min=0.5)
        shift = (counts / counts.sum()).log().to(device)

    def compute(logits: Tensor, wanted: Tensor) -> Tensor:
        adjusted = logits.float() + shift
        return functional.cross_entropy(adjusted, wanted, label_smoothing=plan.label_smoothing)

    return compute


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep the running statistics of all batch-norm layers as they are."""
    for module in _batch_norms(model):
        module.eval()


def _batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return (module for module in model.modules() if isinstance(module, kinds))


def _within(name: str, heads: tuple[str, ...]) -> bool:
    return any(name == head or name.startswith(f"{head}.") for head in heads)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
