import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data.dataset import batches
from models.data.randomness import order
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.training import recipe, weight_decay_search
from topwork.types.training import TrainConfig

CLASSES, IMAGES, WIDTH = 3, 90, 12


@pytest.fixture
def plan() -> Plan:
    names = ["a", "b", "c"]
    counts = {"train": dict.fromkeys(names, 30), "val": dict.fromkeys(names, 5)}
    config = TrainConfig(architecture="resnet18", hyperparameters={"epochs": 6})
    return resolve(config, catalogue.get("resnet18"), {"classes": names, "counts": counts})


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(IMAGES) % CLASSES
    return torch.randn(IMAGES, WIDTH) + functional.one_hot(labels, WIDTH), labels


def one_head(
    features: Tensor, labels: Tensor, folds: Tensor, fold: int, value: float, plan: Plan
) -> Tensor:
    """Train one (decay, fold) alone, by torch's own AdamW, the plain way."""
    weight = torch.zeros(WIDTH, CLASSES, requires_grad=True)
    bias = torch.zeros(CLASSES, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": value}, {"params": [bias], "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups)
    step = 0
    for epoch in range(1, plan.epochs + 1):
        parts = batches(order(1, epoch, IMAGES), plan.batch_size)
        for part in parts:
            indices = torch.from_numpy(part)
            indices = indices[folds[indices] != fold]
            recipe.set_rate(_with_factor(optimizer), recipe.rate_at(plan, step, len(parts)))
            loss = functional.cross_entropy(features[indices] @ weight + bias, labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    out = folds == fold
    logits = features[out] @ weight + bias
    return functional.cross_entropy(logits, labels[out], reduction="sum").detach()


def _with_factor(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group["factor"] = 1.0
    return optimizer


def test_all_heads_at_once_learn_what_each_learns_alone(
    data: tuple[Tensor, Tensor], plan: Plan
) -> None:
    features, labels = data
    folds = torch.arange(IMAGES) % weight_decay_search.FOLDS
    candidates = weight_decay_search.CANDIDATES
    logits = weight_decay_search._held_out(features, labels, folds, CLASSES, plan, 1, candidates)
    together = weight_decay_search._losses(logits, labels).sum(0)
    for number in (0, 3, 5):
        value = weight_decay_search.CANDIDATES[number]
        alone = sum(
            one_head(features, labels, folds, fold, value, plan)
            for fold in range(weight_decay_search.FOLDS)
        )
        assert float(together[number]) == pytest.approx(float(alone), rel=1e-4)


def test_noise_asks_for_much_decay(plan: Plan) -> None:
    torch.manual_seed(0)
    noise = torch.randn(IMAGES, 200)
    labels = torch.arange(IMAGES) % CLASSES
    chosen = weight_decay_search.choose(
        noise, labels, CLASSES, dataclasses.replace(plan, epochs=20), 1
    )
    assert chosen.value == max(weight_decay_search.CANDIDATES)
    assert "cross-validation" in chosen.reason


def test_folds_divide_every_class_evenly() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10)
    keys = np.arange(60, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(97)
    folds = weight_decay_search._folds(keys, labels)
    assert torch.bincount(folds[labels == 0]).tolist() == [10] * 5
    assert torch.bincount(folds[labels == 1]).tolist() == [2] * 5


@pytest.mark.parametrize(
    ("labels", "classes", "word"),
    [(torch.arange(10), 11, "too few"), (torch.arange(4000) % 2000, 5000, "too long")],
)
def test_where_nothing_can_be_compared_a_usual_value_is_taken(
    labels: Tensor, classes: int, word: str, plan: Plan
) -> None:
    chosen = weight_decay_search.choose(torch.randn(len(labels), 64), labels, classes, plan, 1)
    assert chosen.value == weight_decay_search.DEFAULT
    assert word in chosen.reason


def films(scenes: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, labels and scenes: frames differ little, scenes and labels by chance."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(scenes, 64, generator=generator).repeat_interleave(frames, 0)
    values = first + 0.1 * torch.randn(scenes * frames, 64, generator=generator)
    scene = torch.arange(scenes).repeat_interleave(frames)
    return values, scene % 2, scene


def test_frames_of_a_scene_are_one_group() -> None:
    values, _, scene = films(12, 10)
    groups = weight_decay_search.near_duplicates(values)
    same = groups[:, None] == groups[None, :]
    assert torch.equal(same, scene[:, None] == scene[None, :])
    assert len(weight_decay_search.near_duplicates(torch.randn(600, 64)).unique()) == 600


def test_a_head_that_saw_the_scene_does_not_answer_for_it(plan: Plan) -> None:
    """Labels are chance: who has seen a scene knows it, who has not can only guess."""
    values, labels, scene = films(20, 10)
    found = weight_decay_search.answers(
        values, labels, 2, dataclasses.replace(plan, epochs=40), 1, (0.1,)
    )
    assert not isinstance(found, str)
    assert torch.equal(found.images, torch.arange(200))
    loss = functional.cross_entropy(found.logits[:, 0], labels)
    assert float(loss) > 0.6
    folds = weight_decay_search.deal(weight_decay_search.near_duplicates(values), labels)
    assert all(len(folds[scene == one].unique()) == 1 for one in range(20))
    assert torch.bincount(folds).tolist() == [40] * 5


def test_a_class_of_one_scene_cannot_be_held_out(plan: Plan) -> None:
    values, labels, _ = films(2, 20)
    found = weight_decay_search.answers(values, labels, 2, plan, 1, (1.0,))
    assert "nearly the same" in str(found)
