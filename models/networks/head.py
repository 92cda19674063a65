"""Find, replace and split off the layer that decides the classes.

A network built for 1000 classes has its heads wherever a linear or convolutional layer has exactly
1000 outputs. With another number of classes inner layers can match too, so whoever has the layer
names from a card passes them on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.planning.heatmaps import MapLayer
from topwork.errors import WeightsMismatch

IMAGENET_CLASSES = 1000

_Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True, slots=True)
class Heads:
    """Names of the layer that gives the logits and of those that only training uses."""

    main: str
    auxiliary: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every head, the auxiliary ones first, in the network's order."""
        return (*self.auxiliary, self.main)


def _outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else None


def find(model: nn.Module, classes: int = IMAGENET_CLASSES) -> Heads:
    """Return the layers with exactly `classes` outputs; the last one is the main head."""
    named = [name for name, module in model.named_modules() if _outputs(module) == classes]
    if not named:
        raise WeightsMismatch(f"No layer of {type(model).__name__} has {classes} outputs.")
    *auxiliary, main = named
    return Heads(main, tuple(auxiliary))


def present(model: nn.Module, heads: Heads) -> Heads:
    """Leave out auxiliary heads that the weights came without."""
    names = {name for name, _ in model.named_modules()}
    return Heads(heads.main, tuple(name for name in heads.auxiliary if name in names))


def _layer(model: nn.Module, name: str) -> _Layer:
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise WeightsMismatch(f"{type(model).__name__} has no layer named '{name}'.") from error
    if not isinstance(module, (nn.Linear, nn.Conv2d)):
        raise WeightsMismatch(f"Layer '{name}' is a {type(module).__name__}, not a head.")
    return module


def _like(old: _Layer, classes: int) -> _Layer:
    """Return a fresh layer with the inputs, bias, place and type of `old`."""
    options: dict[str, Any] = {
        "bias": old.bias is not None,
        "device": old.weight.device,
        "dtype": old.weight.dtype,
    }
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, **options)
    size: dict[str, Any] = {
        "kernel_size": old.kernel_size,
        "stride": old.stride,
        "padding": old.padding,
    }
    return nn.Conv2d(old.in_channels, classes, **size, **options)


def replace(model: nn.Module, classes: int, heads: Heads | None = None) -> Heads:
    """Put new random layers with `classes` outputs in place of the heads; return their names.

    `heads` comes from a card; without it the network must be one for 1000 classes.
    """
    heads = heads or find(model)
    for name in heads.all:
        model.set_submodule(name, _like(_layer(model, name), classes), strict=True)
    return heads


class _ReachedHead(Exception):
    """The features on their way into the head, carried out of the network's forward."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


class Trunk(nn.Module):
    """Everything before the head; features come out as they enter it, without its dropout.

    Only in eval mode: in train mode auxiliary heads and dropout would take part.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images (N, 3, H, W): (N, F), or maps (N, F, h, w)."""
        if self.model.training:
            raise RuntimeError("A trunk gives features in eval mode only.")

        def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            raise _ReachedHead(inputs[0])

        handle = self.model.get_submodule(self.layer).register_forward_pre_hook(stop)
        try:
            self.model(images)
        except _ReachedHead as reached:
            return reached.features
        finally:
            handle.remove()
        raise RuntimeError(f"The network never reached layer '{self.layer}'.")


class Head(nn.Sequential):
    """From features to logits (N, classes): dropout, the layer itself, and what follows it.

    The layer is the model's own, so that training the head trains the model.
    """

    def __init__(self, dropout: float, layer: nn.Module, rest: Sequence[nn.Module]) -> None:
        super().__init__(nn.Dropout(dropout), layer, *rest)


def _dropout_before(model: nn.Module, layer: str) -> float:
    """Return the rate of the dropout right before the layer, or 0."""
    before = 0.0
    for name, module in model.named_modules():
        if name == layer:
            return before
        if not any(True for _ in module.children()):
            before = module.p if isinstance(module, nn.Dropout) else 0.0
    raise WeightsMismatch(f"{type(model).__name__} has no layer named '{layer}'.")


def _rest(model: nn.Module, layer: str) -> list[nn.Module]:
    """Return what follows a convolutional head: the rest of its sequence, then flattening."""
    parent, _, index = layer.rpartition(".")
    siblings = dict(model.get_submodule(parent).named_children())
    following = [module for name, module in siblings.items() if int(name) > int(index)]
    return [*following, nn.Flatten(1)]


def split(model: nn.Module, layer: str) -> tuple[Trunk, Head]:
    """Cut the network where features enter the main head: `head(trunk(x))` is `model(x)` in eval.

    Linear heads are last in every network here. SqueezeNet and NiN end in a convolution, after
    which come an average over space and, in SqueezeNet, a ReLU; these then belong to the head.
    """
    module = _layer(model, layer)
    rest = _rest(model, layer) if isinstance(module, nn.Conv2d) else []
    return Trunk(model, layer), Head(_dropout_before(model, layer), module, rest)


def with_features(model: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of one pass, and the features (n, d) that enter a layer.

    Of maps they are the mean over space. It can be traced.
    """
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = model.get_submodule(layer).register_forward_pre_hook(look)
    try:
        logits, _ = logits_of(model(images))
    finally:
        handle.remove()
    return logits, pooled(seen[0])


def with_maps(
    model: nn.Module, layer: str, source: MapLayer, images: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same with the maps (n, k, h, w) whose average the logits are made of."""
    seen: list[Tensor] = []

    def look(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    handle = model.get_submodule(source.name).register_forward_hook(look)
    try:
        logits, features = with_features(model, layer, images)
    finally:
        handle.remove()
    return logits, features, seen[0].relu() if source.relu else seen[0]


def pooled(features: Tensor) -> Tensor:
    """Return features (n, d) of features or of maps (n, d, h, w), which are averaged."""
    return features.flatten(2).mean(2) if features.dim() > 2 else features  # noqa: PLR2004 - rows and columns.


def logits_of(output: object) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Tell the logits (N, classes) from the auxiliary ones a network may add in train mode.

    torchvision's GoogLeNet answers (logits, aux2, aux1), its Inception v3 (logits, aux).
    """
    if isinstance(output, torch.Tensor):
        return output, ()
    if isinstance(output, tuple) and output:
        main, *others = output
        return main, tuple(other for other in reversed(others) if other is not None)
    raise TypeError(f"A network answered {type(output).__name__} instead of logits.")
