"""Which networks can say what part of an image spoke for a class, and by which of their layers.

A class activation map (Zhou et al., CVPR 2016, arXiv 1512.04150) is what each cell of the last maps
adds to a class. Where an average over space and one linear layer follow these maps, the cells add
up to the logit exactly, which is the reason to believe them; `bench/explain.py` measures whether
they also lie where the network looked. Every other family has its reason here. No torch.
"""

from dataclasses import dataclass
from typing import Any

from models.planning import catalogue

GRAPH_ENGINE = "onnxruntime"
"""What a card calls the engine whose graph has maps only if it was made with them."""


@dataclass(frozen=True, slots=True)
class MapLayer:
    """The layer whose output is averaged over space.

    Attributes:
        name: Of the layer within the network.
        relu: Whether the network applies one behind it that is no layer of its own.
        per_class: Whether it has a channel for each class, so that nothing linear follows.
    """

    name: str
    relu: bool = False
    per_class: bool = False


_SEVERAL = "several layers lie between its maps and the classes, so no map adds up to its answer"
_NORMALISED = "its maps are normalised behind their average, so no map adds up to its answer"
_ATTENTION = "its patches attend to each other, and nothing has shown that they stay in place"
NO_MAPS = "the graph that serves it gives no maps, as it was made by an earlier version"

FAMILIES: dict[str, MapLayer | str] = {
    "alexnet": _SEVERAL,
    "convnext": _NORMALISED,
    "densenet": MapLayer("features", relu=True),
    "efficientnet": MapLayer("features"),
    "efficientnet_v2": MapLayer("features"),
    "googlenet": MapLayer("inception5b"),
    "inception": MapLayer("Mixed_7c"),
    "inception_resnet": MapLayer("blocks"),
    "lenet": _SEVERAL,
    "maxvit": _SEVERAL,
    "mnasnet": MapLayer("layers"),
    "mobilenet_v2": MapLayer("features"),
    "mobilenet_v3": _SEVERAL,
    "nin": MapLayer("classifier.0", per_class=True),
    "regnet": MapLayer("trunk_output"),
    "resnet": MapLayer("layer4"),
    "resnext": MapLayer("layer4"),
    "shufflenet": MapLayer("conv5"),
    "squeezenet": MapLayer("classifier.2", per_class=True),
    "swin": _ATTENTION,
    "swin_v2": _ATTENTION,
    "vgg": _SEVERAL,
    "vit": _ATTENTION,
    "wide_resnet": MapLayer("layer4"),
}
"""Of each family the layer, or why it has none."""


def source(architecture: str) -> MapLayer | None:
    """Return the layer whose maps explain an answer of this network, if there is one."""
    found = FAMILIES[catalogue.get(architecture).family]
    return None if isinstance(found, str) else found


def unsupported(architecture: str) -> str | None:
    """Return why a network has no heat maps; None if it has."""
    found = FAMILIES[catalogue.get(architecture).family]
    return found if isinstance(found, str) else None


def unavailable(card: dict[str, Any]) -> str | None:
    """Return why a trained model has no heat maps, by its card; None if it has."""
    architecture, engine = card.get("architecture"), card.get("engine") or {}
    if architecture not in catalogue.names():
        return "its network is not known here"
    graph = engine.get("name") == GRAPH_ENGINE
    return unsupported(architecture) or (NO_MAPS if graph and not engine.get("heatmap") else None)
