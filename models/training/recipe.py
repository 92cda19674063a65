"""From the plan's values to an optimiser, a schedule and a loss."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.compute.memory import batch_norms
from models.networks.blocks import Block, holds
from models.planning.plan import Plan

Loss = Callable[[Tensor, Tensor], Tensor]
_ONECYCLE_START, _ONECYCLE_END = 1 / 25, 1e-5
_WARMUP_START = 0.01


def optimizer(
    plan: Plan, model: nn.Module, heads: tuple[str, ...], cut: Sequence[Block] = ()
) -> torch.optim.Optimizer:
    """Return the optimiser over groups of (head or part of the trunk) x (decayed or not).

    Each group carries `factor`, its share of the scheduled learning rate: in a trunk that is `cut`
    into blocks it shrinks from block to block. Decayed are the matrices and filters alone: for
    biases, scales, class tokens and tables of positions zero is no better than any other value.
    """
    parts: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            place = -1 if holds(heads, name) else _depth(name, cut)
            parts.setdefault((place, not _decays(name, value)), []).append(value)
    groups: list[dict[str, Any]] = []
    for (place, spared), members in sorted(parts.items(), key=lambda part: part[0]):
        factor = 1.0 if place < 0 else plan.trunk_factor * plan.block_decay**place
        decay = 0.0 if spared else plan.weight_decay or 0.0
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


def shift(plan: Plan, labels: Tensor, classes: int) -> Tensor:
    """Return what is added to the logits (classes,) during training only.

    Logit adjustment adds the logarithm of each class's share, so that the plain logits rank
    classes as if all were equally frequent (arXiv:2007.07314).
    """
    if plan.imbalance != "logit_adjustment":
        return torch.zeros(classes)
    counts = torch.bincount(labels, minlength=classes).float().clamp(min=0.5)
    return (counts / counts.sum()).log()


def loss(plan: Plan, labels: Tensor, classes: int, device: str) -> Loss:
    """Return the training loss over logits (n, classes) and labels (n,) or shares (n, classes)."""
    added = shift(plan, labels, classes).to(device)

    def compute(logits: Tensor, targets: Tensor) -> Tensor:
        adjusted = logits.float() + added
        return functional.cross_entropy(adjusted, targets, label_smoothing=plan.label_smoothing)

    return compute


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep the running statistics of all batch-norm layers as they are."""
    for module in batch_norms(model):
        module.eval()


def _decays(name: str, value: nn.Parameter) -> bool:
    return value.dim() > 1 and name.endswith("weight")


def _depth(name: str, cut: Sequence[Block]) -> int:
    return next((number for number, block in enumerate(cut) if holds(block, name)), 0)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
