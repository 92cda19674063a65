"""The network a run starts from: its weights, its new head and where they came from."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.system.run_dir import RunDir
from models.data.randomness import step_seed
from models.inference import artefact
from models.inference.preprocess import Preprocess
from models.networks import head, zoo
from models.networks.head import Heads
from models.planning.catalogue import Architecture
from models.planning.plan import Plan
from models.weights import pretrained
from topwork.errors import IntegrityError, WeightsMismatch
from topwork.types.training import TrainRequest


@dataclass(frozen=True)
class Start:
    """A network with one output per class of the dataset."""

    model: nn.Module
    heads: Heads
    preprocess: Preprocess
    lineage: dict[str, Any]


def start(
    run: RunDir, request: TrainRequest, plan: Plan, facts: Architecture, classes: list[str]
) -> Start:
    """Build the network with random, pretrained or one's own earlier weights.

    Raises:
        WeightsUnavailable: There are no weights here, and none could be fetched.
        WeightsMismatch: The model to start from is another architecture.
    """

    def downloaded(_done: int, _total: int | None) -> None:
        run.events.alive()
        run.check_stop()

    torch.manual_seed(step_seed(request.config.seed, 0, 0))
    auxiliary = plan.mode != "head"
    heads = Heads(facts.head, tuple(one.layer for one in facts.auxiliary) if auxiliary else ())
    preprocess = Preprocess.for_architecture(facts.name)
    if plan.weights.startswith("model:"):
        return _own(request, plan, facts, classes)
    if plan.weights == "none":
        model = zoo.build(facts.name, len(classes), auxiliary=auxiliary)
        lineage: dict[str, Any] = {"weights": "none", "sha256": None}
    else:
        published = pretrained.load(
            facts.name,
            request.weights_dir,
            offline=request.offline,
            timeout=request.download_timeout,
            progress=downloaded,
        )
        model = zoo.build(facts.name, pretrained_state=published.tensors, auxiliary=auxiliary)
        heads = _present(model, heads)
        head.replace(model, len(classes), heads)
        lineage = {"weights": "imagenet", "sha256": published.sha256}
    return Start(model, heads, preprocess.at(plan.image_size), lineage)


def parent_size(request: TrainRequest) -> int | None:
    """Return the side in pixels that the model to start from takes; None without such a model."""
    if request.init_from is None:
        return None
    card = artefact.read_card(request.init_from, request.init_sha256)
    return Preprocess.from_dict(card["preprocess"]).crop


def _own(request: TrainRequest, plan: Plan, facts: Architecture, classes: list[str]) -> Start:
    """Start from an earlier model; rows of the head whose class exists again are kept."""
    if request.init_from is None:
        raise WeightsMismatch(f"The request brings no files for {plan.weights}.", param="weights")
    model, card = artefact.load(
        request.init_from, card_digest=request.init_sha256, auxiliary=plan.mode != "head"
    )
    if card["architecture"] != facts.name:
        raise WeightsMismatch(
            f"{plan.weights} is a {card['architecture']}, not a {facts.name}.", param="weights"
        )
    heads = _named(model, card)
    known = {name: row for row, name in enumerate(card["classes"])}
    old = {name: model.get_submodule(name) for name in heads.all}
    head.replace(model, len(classes), heads)
    with torch.no_grad():
        for name, before in old.items():
            for part, values in model.get_submodule(name).named_parameters():
                values.copy_(_rows(before.get_parameter(part), known, classes))
    preprocess = Preprocess.from_dict(card["preprocess"])
    digest = card["files"][artefact.WEIGHTS]["sha256"]
    return Start(
        model,
        heads,
        preprocess.at(plan.image_size),
        {"weights": plan.weights, "sha256": digest, "of": card.get("lineage")},
    )


def _named(model: nn.Module, card: artefact.Card) -> Heads:
    """Return the heads that a card names.

    Raises:
        IntegrityError: It names none, or a layer that has not one output for each of its classes.
    """
    try:
        heads = Heads(card["head"]["layers"][-1], tuple(card["head"]["auxiliary"]))
        heads = _present(model, heads)
        fits = set(heads.all) <= set(head.find(model, len(card["classes"])).all)
    except (KeyError, IndexError, TypeError, WeightsMismatch) as error:
        raise IntegrityError(f"The model's card does not name its head: {error!r}.") from error
    if not fits:
        raise IntegrityError(f"The model's card names {heads.main!r}, which is not its head.")
    return heads


def _rows(old: Tensor, known: dict[str, int], classes: list[str]) -> Tensor:
    """Return old rows by class name; a new class starts as their mean, which cannot win yet."""
    mean = old.mean(0)
    return torch.stack([old[known[name]] if name in known else mean for name in classes])


def _present(model: nn.Module, heads: Heads) -> Heads:
    """Leave out auxiliary heads that the weights came without."""
    names = {name for name, _ in model.named_modules()}
    return Heads(heads.main, tuple(name for name in heads.auxiliary if name in names))
