"""Time the pass of frozen trunks: python bench/trunk.py [ARCHITECTURE ...].

One batch of 32 normalised images of noise passes trunks with random weights: the network as it is,
folded by torch, and compiled by OpenVINO (where the extra is installed), in fp32 and in bf16, in
turns in one process that keeps the memory it frees, as a trainer does. What the network as it is
takes in a process that hands memory back is timed before that. Compiling is told apart.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn

from bench import plain
from core.system.machine import cores
from models.compute import execution, openvino
from models.compute.execution import Execution
from models.networks import zoo
from models.networks.fold import folded
from models.networks.head import Trunk
from models.planning import catalogue

NETWORKS = ("mobilenet_v2", "resnet18", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16")
IMAGES = 32
GIVEN_BACK = "as it is, fp32, memory handed back"


def milliseconds(trunk: nn.Module, images: Tensor) -> float:
    """Return the time of one pass for each image."""
    began = time.perf_counter()
    with torch.inference_mode():
        trunk(images)
    return 1000 * (time.perf_counter() - began) / len(images)


def sides(model: nn.Module, layer: str) -> Iterable[tuple[str, nn.Module]]:
    """Yield each way to run a trunk, with its name."""
    usual = Execution(
        "cpu", "fp32", channels_last=True, threads=cores(), deterministic=False, reason=""
    )
    usual.place(model)
    yield "as it is, fp32", usual.running(Trunk(model, layer))
    precisions = ("fp32", "bf16") if execution.has_bf16("cpu") else ("fp32",)
    engines = ("torch", "openvino") if openvino.version() else ("torch",)
    for engine, precision in product(engines, precisions):
        how = replace(usual, engine=engine, precision=precision)
        yield f"folded, {how.arithmetic}", how.running(folded(model, layer))


def main() -> None:
    """Print for each network the median and the spread of every side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", default=NETWORKS)
    parser.add_argument("-n", type=int, default=5)
    asked = parser.parse_args()
    print(plain.machine())
    torch.set_num_threads(cores())
    images = torch.randn(IMAGES, 3, 224, 224)
    models = {name: zoo.build(name).eval() for name in asked.architectures}
    layers = {name: catalogue.get(name).head for name in models}
    took: dict[tuple[str, str], list[float]] = {}
    for name, model in models.items():
        [(_, trunk), *_] = sides(model, layers[name])
        milliseconds(trunk, images)
        took[name, GIVEN_BACK] = [milliseconds(trunk, images) for _ in range(asked.n)]
    execution.keep_memory()
    for name, model in models.items():
        trunks = dict(sides(model, layers[name]))
        first = {side: milliseconds(trunk, images) for side, trunk in trunks.items()}
        for _, (side, trunk) in product(range(asked.n), trunks.items()):
            took.setdefault((name, side), []).append(milliseconds(trunk, images))
        print(f"{name}, {IMAGES} images at 224 pixels, n = {asked.n} in turns, ms an image")
        for side in (GIVEN_BACK, *trunks):
            every = took[name, side]
            spread = f"({min(every):.1f} to {max(every):.1f})"
            extra = (first[side] - every[0]) * IMAGES / 1000 if "OpenVINO" in side else 0
            compiled = f", compiled in {extra:.1f} s" if extra else ""
            print(f"  {side:36}{statistics.median(every):7.1f} {spread}{compiled}")


if __name__ == "__main__":
    main()
