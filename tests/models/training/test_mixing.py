import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data.randomness import step_seed
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.training import mixing, recipe
from topwork.types.training import TrainConfig

CLASSES = 3
SUMMARY = {
    "classes": ["a1", "b1", "c1"],
    "counts": {"train": {"a1": 50, "b1": 30, "c1": 20}, "val": {"a1": 5}},
}
KINDS = [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}]


def plan(**changes: float | str) -> Plan:
    config = TrainConfig.model_validate({"architecture": "lenet"})
    return dataclasses.replace(
        resolve(config, catalogue.get("lenet"), SUMMARY),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(12, 3, 32, 32), torch.arange(12) % CLASSES


def step(
    kind: dict[str, float], batch: tuple[Tensor, Tensor], number: int
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(step_seed(1, 1, number))
    return mixing.planned(plan(**kind), CLASSES)(*batch)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_shares_that_sum_to_one(
    kind: dict[str, float], batch: tuple[Tensor, Tensor]
) -> None:
    for number in range(20):
        images, shares = step(kind, batch, number)
        assert images.shape == batch[0].shape
        assert shares.shape == (12, CLASSES)
        assert shares.min() >= 0
        torch.testing.assert_close(shares.sum(1), torch.ones(12))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_mixes_alike_however_often_it_is_repeated(
    kind: dict[str, float], batch: tuple[Tensor, Tensor]
) -> None:
    first, again, other = (step(kind, batch, number) for number in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_a_label_has_the_share_of_its_images_pixels(batch: tuple[Tensor, Tensor]) -> None:
    flat = batch[1].float()[:, None, None, None].expand(-1, 3, 32, 32)
    for kind in KINDS:
        for number in range(10):
            images, shares = step(kind, (flat, batch[1]), number)
            expected = shares @ torch.arange(CLASSES).float()
            torch.testing.assert_close(images.mean((1, 2, 3)), expected, atol=1e-3, rtol=0)


def test_nothing_is_mixed_unless_asked_or_with_one_image(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    assert mixing.planned(plan(), CLASSES)(images, labels) == (images, labels)
    alone = images[:1], labels[:1]
    assert mixing.planned(plan(mixup=1.0), CLASSES)(*alone) == alone


def test_the_loss_takes_shares_with_smoothing_and_adjustment() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    chosen = plan(label_smoothing=0.1, imbalance="logit_adjustment")
    compute = recipe.loss(chosen, labels, CLASSES, "cpu")
    logits, wanted = torch.randn(6, CLASSES), torch.arange(6) % CLASSES
    whole = functional.one_hot(wanted, CLASSES).float()
    torch.testing.assert_close(compute(logits, whole), compute(logits, wanted))
    half = (whole + whole.roll(1, 0)) / 2
    mean = (compute(logits, wanted) + compute(logits, wanted.roll(1))) / 2
    torch.testing.assert_close(compute(logits, half), mean)
