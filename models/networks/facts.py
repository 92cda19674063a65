"""Measure every network and write its facts: `python -P -m models.networks.facts`.

Run it after a change of torchvision or of an own network. Writes `catalogue.json`; reading that
needs no torch.
"""

import json
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as torchvision_models

from models.networks.head import find, split
from models.networks.zoo import OWN, Shell, construct
from models.planning.catalogue import FOLDER, Architecture, Auxiliary, Weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Family to title and address of its paper; the family of torchvision's networks is their file.
PAPERS = {
    "alexnet": ("One weird trick for parallelizing convolutional neural networks", "1404.5997"),
    "convnext": ("A ConvNet for the 2020s", "2201.03545"),
    "densenet": ("Densely Connected Convolutional Networks", "1608.06993"),
    "efficientnet": (
        "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        "1905.11946",
    ),
    "efficientnet_v2": ("EfficientNetV2: Smaller Models and Faster Training", "2104.00298"),
    "googlenet": ("Going Deeper with Convolutions", "1409.4842"),
    "inception": ("Rethinking the Inception Architecture for Computer Vision", "1512.00567"),
    "inception_resnet": (
        "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        "1602.07261",
    ),
    "maxvit": ("MaxViT: Multi-Axis Vision Transformer", "2204.01697"),
    "mnasnet": ("MnasNet: Platform-Aware Neural Architecture Search for Mobile", "1807.11626"),
    "mobilenet_v2": ("MobileNetV2: Inverted Residuals and Linear Bottlenecks", "1801.04381"),
    "mobilenet_v3": ("Searching for MobileNetV3", "1905.02244"),
    "nin": ("Network In Network", "1312.4400"),
    "regnet": ("Designing Network Design Spaces", "2003.13678"),
    "resnet": ("Deep Residual Learning for Image Recognition", "1512.03385"),
    "resnext": ("Aggregated Residual Transformations for Deep Neural Networks", "1611.05431"),
    "shufflenet": (
        "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
        "1807.11164",
    ),
    "squeezenet": (
        "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
        "1602.07360",
    ),
    "swin": (
        "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        "2103.14030",
    ),
    "swin_v2": ("Swin Transformer V2: Scaling Up Capacity and Resolution", "2111.09883"),
    "vgg": ("Very Deep Convolutional Networks for Large-Scale Image Recognition", "1409.1556"),
    "vit": (
        "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        "2010.11929",
    ),
    "wide_resnet": ("Wide Residual Networks", "1605.07146"),
}
OWN_PAPERS = {
    "lenet": (
        "lenet",
        "Gradient-based learning applied to document recognition",
        "http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf",
    ),
    "alexnet_lrn": (
        "alexnet",
        "ImageNet Classification with Deep Convolutional Neural Networks",
        "https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
    ),
}
# (input_size, resize, min_size) of our own networks.
OWN_SIZES = {
    "alexnet_lrn": (224, 256, 224),
    "inception_resnet_v1": (299, 342, 75),
    "lenet": (32, 32, 32),
    "nin": (32, 32, 8),
}
# Factor of each auxiliary loss: GoogLeNet's paper, section 5; Inception v3 as its authors' code.
AUXILIARY = {
    "googlenet": (Auxiliary("aux1.fc2", "aux1", 0.3), Auxiliary("aux2.fc2", "aux2", 0.3)),
    "inception_v3": (Auxiliary("AuxLogits.fc", "AuxLogits", 0.4),),
}
# What the published weights were trained with and the builder does not assume by itself.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True},
    "inception_v3": {"transform_input": True},
    "vit_h_14": {"image_size": 518},
}
# Where a network in train mode needs more than its publisher says: the auxiliary head of Inception
# v3 has a 5 x 5 convolution without border on maps that are that large from 299 pixels on.
MIN_SIZES = {"inception_v3": 299}
FIXED_SIZE_FAMILIES = {"vit", "maxvit", "lenet"}


def names() -> list[str]:
    """Return the names of torchvision's classifiers and our own."""
    return sorted([*torchvision_models.list_models(module=torchvision_models), *OWN])


def _paper(name: str) -> tuple[str, str, str]:
    """Return family, title and address; the longest family that begins the name wins."""
    if name in OWN_PAPERS:
        return OWN_PAPERS[name]
    alias = name.replace("resnext50", "resnext").replace("resnext101", "resnext")
    family = max((family for family in PAPERS if alias.startswith(family)), key=len)
    title, number = PAPERS[family]
    return family, title, f"https://arxiv.org/abs/{number}"


def measure(name: str) -> Architecture:
    """Return the facts of one network; needs little memory, as no tensor has values."""
    family, title, paper = _paper(name)
    arguments = ARGUMENTS.get(name, {})
    with Shell():
        model = construct(name, 1000, arguments, auxiliary=False if name in AUXILIARY else None)
    heads = find(model)
    preset = _own_preset(name) if name in OWN else _published_preset(name)
    image = torch.empty(1, 3, preset["input_size"], preset["input_size"], device="meta")
    features, operations = _run(model.to("meta"), heads.main, image)
    return Architecture(
        name=name,
        family=family,
        title=title,
        paper=paper,
        own=name in OWN,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gigaops=round(operations / 2e9, 3),
        fixed_size=family in FIXED_SIZE_FAMILIES or name == "alexnet_lrn",
        head=heads.main,
        feature_shape=features,
        auxiliary=AUXILIARY.get(name, ()),
        arguments=arguments,
        **preset,
    )


def _run(model: nn.Module, layer: str, image: torch.Tensor) -> tuple[tuple[int, ...], int]:
    """Return the shape of one image's features and the operations of one whole forward."""
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image)
    with torch.inference_mode():
        features = split(model, layer)[0](image)
    return tuple(features.shape[1:]), counter.get_total_flops()


def _own_preset(name: str) -> dict[str, Any]:
    input_size, resize, min_size = OWN_SIZES[name]
    return {
        "input_size": input_size,
        "resize": resize,
        "min_size": min_size,
        "mean": MEAN,
        "std": STD,
        "interpolation": "bilinear",
        "weights": None,
    }


def _published_preset(name: str) -> dict[str, Any]:
    """Return what torchvision's best weights were published with."""
    default: Any = torchvision_models.get_model_weights(name).DEFAULT
    transform, meta = default.transforms(), default.meta
    accuracy = meta["_metrics"]["ImageNet-1K"]
    file = default.url.rpartition("/")[2]
    weights = Weights(
        preset=default.name,
        file=file,
        url=default.url,
        hash_prefix=file.rpartition("-")[2].removesuffix(".pth"),
        megabytes=meta["_file_size"],
        top1=accuracy["acc@1"],
        top5=accuracy["acc@5"],
        recipe=meta["recipe"],
        license=meta.get("license"),
    )
    return {
        "input_size": transform.crop_size[0],
        "resize": transform.resize_size[0],
        "min_size": MIN_SIZES.get(name, meta["min_size"][0]),
        "mean": tuple(transform.mean),
        "std": tuple(transform.std),
        "interpolation": transform.interpolation.value,
        "weights": weights,
    }


def row(name: str) -> dict[str, Any]:
    """Return the facts as they stand in the file."""
    return cast("dict[str, Any]", json.loads(json.dumps(asdict(measure(name)))))


def main() -> None:
    """Measure every network and write the file, one line each."""
    lines = ",\n".join(json.dumps(row(name)) for name in names())
    (FOLDER / "catalogue.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
