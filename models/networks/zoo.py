"""Build every network of the catalogue, from scratch or from given weights.

Given weights are put into an empty shell of the network: drawing random numbers only to overwrite
them is most of the time a network takes to load (2 s of VGG13's 2.1 s).
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models as torchvision_models

from models.networks.alexnet_lrn import AlexNetLRN
from models.networks.head import IMAGENET_CLASSES
from models.networks.inception_resnet_v1 import InceptionResNetV1
from models.networks.lenet import LeNet
from models.networks.loading import load_tensors
from models.networks.nin import NiN
from models.networks.tensorfile import read
from models.planning import catalogue
from topwork.errors import WeightsMismatch

State = Mapping[str, Tensor]

OWN: dict[str, type[nn.Module]] = {
    "alexnet_lrn": AlexNetLRN,
    "inception_resnet_v1": InceptionResNetV1,
    "lenet": LeNet,
    "nin": NiN,
}


class Shell(TorchFunctionMode):
    """Make parameters and buffers without memory.

    `torch.device("meta")` would also catch the small tensors that RegNet's builder computes its
    widths with, whose values are needed.
    """

    _STORAGE = (torch.empty, torch.zeros, torch.ones)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        changed = {**(kwargs or {})}
        if func in self._STORAGE:
            changed["device"] = "meta"
        return func(*args, **changed)


def construct(
    name: str, classes: int, arguments: Mapping[str, Any], *, auxiliary: bool | None = None
) -> nn.Module:
    """Call the network's own builder; `auxiliary` is None for networks that have no such heads."""
    options = dict(arguments)
    if auxiliary is not None:
        options |= {"aux_logits": auxiliary, "init_weights": True}
    if name in OWN:
        return OWN[name](num_classes=classes, **options)
    builder: Callable[..., nn.Module] = torchvision_models.get_model_builder(name)
    return builder(weights=None, num_classes=classes, **options)


def shell(
    architecture: str, classes: int = IMAGENET_CLASSES, *, auxiliary: bool = True
) -> nn.Module:
    """Return the network with parameters of no value: names and shapes, next to no memory."""
    facts = catalogue.get(architecture)
    with Shell():
        wanted = auxiliary if facts.auxiliary else None
        return construct(architecture, classes, facts.arguments, auxiliary=wanted)


def build(
    architecture: str,
    classes: int | None = IMAGENET_CLASSES,
    *,
    pretrained_state: State | Path | str | None = None,
    auxiliary: bool = True,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return a network in train mode, random (seed torch first) or with the given weights.

    The weights must fit name by name and shape by shape, else WeightsMismatch: to keep the trunk
    and change the classes, call `head.replace` afterwards. `classes=None` takes as many as the
    weights have. Auxiliary heads come only where `auxiliary` is set and the weights have them.
    """
    facts = catalogue.get(architecture)
    if pretrained_state is None:
        wanted = auxiliary if facts.auxiliary else None
        model = construct(
            architecture, classes or IMAGENET_CLASSES, facts.arguments, auxiliary=wanted
        )
        return model.to(device)
    given = pretrained_state
    state = read(Path(given)).tensors if isinstance(given, (str, Path)) else given
    prefixes = tuple(f"{entry.module}." for entry in facts.auxiliary)
    present = any(name.startswith(prefixes) for name in state) if prefixes else False
    if prefixes and not auxiliary:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
    outputs = classes if classes is not None else _outputs(state, facts.head)
    model = shell(architecture, outputs, auxiliary=auxiliary and present)
    return fill(model, state).to(device)


def fill(model: nn.Module, state: State) -> nn.Module:
    """Give a shell its values, as float32; raises WeightsMismatch unless everything fits."""
    values = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    load_tensors(model, values, assign=True)
    return model


def _outputs(state: State, layer: str) -> int:
    weight = state.get(f"{layer}.weight")
    if weight is None:
        raise WeightsMismatch(f"The weights have no layer '{layer}' that gives the classes.")
    return weight.shape[0]
