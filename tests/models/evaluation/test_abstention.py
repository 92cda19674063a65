"""What is fitted, from what, and how coverage is held against accuracy."""

import pytest
import torch

from models.evaluation import abstention
from models.evaluation.abstention import Seen, by_confidence, spread_out
from models.inference.rejection import Rejection
from topwork.kinds import AbstainReason


def test_of_each_class_as_many_are_kept() -> None:
    labels = torch.tensor([0] * 90 + [1] * 6 + [2] * 30)
    chosen = spread_out(labels, 30)
    assert torch.bincount(labels[chosen]).tolist() == [12, 6, 12]
    assert len(torch.unique(chosen)) == 30
    assert torch.equal(spread_out(labels, 1000), torch.arange(126))


def test_too_few_images_are_told() -> None:
    seen = [Seen(torch.randn(20, 4), torch.rand(20)), Seen(torch.randn(29, 4), torch.rand(29))]
    told = abstention.fit(torch.randn(40, 4), torch.arange(40) % 2, seen)
    assert isinstance(told, str)
    assert "49 images" in told


def test_an_image_is_not_its_own_proof() -> None:
    """Copies in the same group do not count; else every image of training would be well known."""
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(60, 8, generator=generator).repeat(2, 1)
    groups, labels = torch.arange(60).repeat(2), torch.arange(120) % 2
    seen = [Seen(features, torch.rand(120, generator=generator).double(), groups)]
    alone = abstention.fit(features, labels, [seen[0]._replace(groups=None)], groups)
    apart = abstention.fit(features, labels, seen, groups)
    assert isinstance(alone, Rejection)
    assert isinstance(apart, Rejection)
    assert apart.neighbours == alone.neighbours == abstention.MANY
    assert (alone.similarities > apart.similarities + 0.05).all()


def test_few_images_a_class_have_one_neighbour() -> None:
    features, seen = torch.randn(12, 4), [Seen(torch.randn(60, 4), torch.rand(60).double())]
    found = abstention.fit(features, torch.arange(12) % 3, seen)
    assert isinstance(found, Rejection)
    assert found.neighbours == abstention.FEW


def test_the_surest_answers_are_right_more_often() -> None:
    confidence = torch.linspace(0.5, 1, 100, dtype=torch.float64)
    curve = by_confidence(confidence, torch.arange(100) >= 20)
    assert curve[0] == {"coverage": 1.0, "confidence": 0.5, "accuracy": 0.8}
    assert [point["accuracy"] for point in curve] == sorted(point["accuracy"] for point in curve)
    assert curve[-1]["coverage"] == 0.5
    assert curve[-1]["accuracy"] == 1.0


def test_scores_of_accepted_answers_alone() -> None:
    reasons = [AbstainReason.UNKNOWN, AbstainReason.UNSURE, *[None] * 8]
    right = torch.tensor([False, False, *[True] * 6, False, True])
    told = abstention.scores(reasons, torch.linspace(0, 1, 10), right, None)
    assert (told["coverage"], told["unknown"], told["unsure"]) == (0.8, 1, 1)
    assert told["accuracy"] == pytest.approx(7 / 8)
    assert told["accuracy_interval"]["low"] < 7 / 8 < told["accuracy_interval"]["high"]
    nothing = abstention.scores([AbstainReason.UNKNOWN] * 10, torch.rand(10), right, None)
    assert (nothing["coverage"], nothing["accuracy"]) == (0.0, None)
