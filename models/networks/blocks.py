"""Cut the trunk of any network into blocks, from the head backwards, without code per architecture.

A unit is what a network is built of by repetition: a residual block, an Inception module, a
transformer layer, or a single layer where there is nothing larger. Sequences are opened up, and
so is any module that holds most of the weights, as the encoder of a vision transformer does.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn

from models.networks.head import Heads

MOST = 0.5  # Of the network's weights: a module with more than that is opened up.
Unit = str  # Name of a module, or of a parameter that belongs to no smaller module.
Block = tuple[Unit, ...]

_SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def units(model: nn.Module, heads: Heads) -> list[Unit]:
    """Return the names of everything that can learn outside the heads, in the network's order.

    Auxiliary classifiers count as heads with all their layers.
    """
    apart = {heads.main, *(name.split(".")[0] for name in heads.auxiliary)}
    return list(_opened(model, "", apart, MOST * _size(model)))


def blocks(model: nn.Module, heads: Heads, count: int) -> list[Block]:
    """Return at most `count` blocks of about equally many units, the one next to the head first."""
    names = units(model, heads)
    parts = np.array_split(np.array(names, dtype=object), min(count, max(1, len(names))))
    return [tuple(part) for part in reversed(parts) if len(part)]


def learn(model: nn.Module, cut: Sequence[Block], count: int) -> None:
    """Let the first `count` blocks learn, and the heads; the rest neither learns nor counts.

    What is frozen runs as in prediction: no dropout, and statistics stay as they are.
    """
    model.train().requires_grad_()
    for block in cut[count:]:
        for name in block:
            part = _find(model, name)
            _freeze(part)


def _freeze(part: nn.Module | nn.Parameter) -> None:
    if isinstance(part, nn.Module):
        part.eval().requires_grad_(requires_grad=False)
    else:
        part.requires_grad = False


def holds(block: Block, parameter: str) -> bool:
    """Tell whether a block holds the parameter of this name."""
    return any(parameter == name or parameter.startswith(f"{name}.") for name in block)


def _opened(module: nn.Module, prefix: str, apart: set[str], most: float) -> Iterator[Unit]:
    for name, _ in module.named_parameters(recurse=False):
        yield f"{prefix}{name}"
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if path in apart or not _size(child):
            continue
        inside = any(one.startswith(f"{path}.") for one in apart)
        if inside or isinstance(child, _SEQUENCES) or (_size(child) > most and _parts(child)):
            yield from _opened(child, f"{path}.", apart, most)
        else:
            yield path


def _find(model: nn.Module, name: str) -> nn.Module | nn.Parameter:
    parent, _, last = name.rpartition(".")
    found = getattr(model.get_submodule(parent), last)
    if not isinstance(found, nn.Module | nn.Parameter):  # pragma: no cover - units are one of them.
        raise TypeError
    return found


def _size(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _parts(module: nn.Module) -> bool:
    return any(True for _ in module.children())
