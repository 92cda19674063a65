"""The network a run starts from: its weights, its new head and where they came from."""

from typing import Any

import torch
from torch import Tensor

from core.system.run_dir import RunDir
from models.data.randomness import step_seed
from models.inference import artefact
from models.inference.network import Network
from models.inference.preprocess import Preprocess
from models.networks import head, zoo
from models.networks.head import Heads, present
from models.planning import catalogue
from models.planning.plan import Plan
from models.planning.request import TrainRequest
from models.weights import pretrained
from topwork.errors import WeightsMismatch


def build(run: RunDir, request: TrainRequest, plan: Plan, classes: list[str]) -> Network:
    """Build the network with random, pretrained or one's own earlier weights.

    Raises:
        WeightsUnavailable: There are no weights here, and none could be fetched.
        WeightsMismatch: The model to start from is another architecture.
    """

    def downloaded(_done: int, _total: int | None) -> None:
        run.events.alive()
        run.check_stop()

    torch.manual_seed(step_seed(request.config.seed, 0, 0))
    if plan.weights.startswith("model:"):
        return _own(request, plan, classes)
    architecture = catalogue.get(request.config.architecture)
    auxiliary = plan.mode != "head"
    layers = tuple(one.layer for one in architecture.auxiliary) if auxiliary else ()
    heads = Heads(architecture.head, layers)
    if plan.weights == "none":
        model = zoo.build(architecture.name, len(classes), auxiliary=auxiliary)
        lineage: dict[str, Any] = {"weights": "none", "sha256": None}
    else:
        published = pretrained.load(
            architecture.name,
            request.weights_dir,
            offline=request.offline,
            timeout=request.download_timeout,
            progress=downloaded,
        )
        model = zoo.build(
            architecture.name, pretrained_state=published.tensors, auxiliary=auxiliary
        )
        heads = present(model, heads)
        head.replace(model, len(classes), heads)
        lineage = {"weights": "imagenet", "sha256": published.sha256}
    preset = Preprocess.for_architecture(architecture.name)
    preprocess = preset.at(plan.image_size, fit=plan.fit, white=plan.white)
    return Network(architecture, model, heads, classes, preprocess, lineage)


def parent_sees(request: TrainRequest) -> tuple[int, str] | tuple[()]:
    """Return side and `fit` of what the model to start from takes; nothing without such a model."""
    if request.init_from is None:
        return ()
    card = artefact.read_card(request.init_from, request.init_sha256)
    preprocess = Preprocess.from_dict(card["preprocess"])
    return preprocess.crop, preprocess.fit


def _own(request: TrainRequest, plan: Plan, classes: list[str]) -> Network:
    """Start from an earlier model; rows of the head whose class exists again are kept."""
    if request.init_from is None:
        raise WeightsMismatch(f"The request brings no files for {plan.weights}.", param="weights")
    auxiliary = plan.mode != "head"
    network = Network.from_artefact(
        request.init_from, plan.weights, card_digest=request.init_sha256, auxiliary=auxiliary
    )
    own, asked = network.architecture.name, request.config.architecture
    if own != asked:
        raise WeightsMismatch(f"{plan.weights} is a {own}, not a {asked}.", param="weights")
    rows = {name: row for row, name in enumerate(network.classes)}
    old = {name: network.model.get_submodule(name) for name in network.heads.all}
    head.replace(network.model, len(classes), network.heads)
    with torch.no_grad():
        for name, before in old.items():
            for part, values in network.model.get_submodule(name).named_parameters():
                values.copy_(_rows(before.get_parameter(part), rows, classes))
    network.classes = classes
    network.preprocess = network.preprocess.at(plan.image_size, fit=plan.fit, white=plan.white)
    return network


def _rows(old: Tensor, rows: dict[str, int], classes: list[str]) -> Tensor:
    """Return old rows by class name; a new class starts as their mean, which cannot win yet."""
    mean = old.mean(0)
    return torch.stack([old[rows[name]] if name in rows else mean for name in classes])
