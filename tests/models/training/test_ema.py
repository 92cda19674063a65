from typing import Any

import pytest
import torch
from torch import nn

from models.training.ema import Average


def test_the_average_follows_slowly_and_copies_counters() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(model, 0.9)
    follower: Any = average.model
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
        model[1].num_batches_tracked.add_(3)
    average.follow(model, 1)
    moved = (follower[0].weight - before).mean().item()
    assert moved == pytest.approx(1 - 1 / 11)
    assert follower[1].num_batches_tracked == 3
    for step in range(2, 1000):
        average.follow(model, step)
    torch.testing.assert_close(follower[0].weight, model[0].weight.detach())


def test_the_decay_bounds_how_slowly() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.5)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.follow(model, 10_000)
    torch.testing.assert_close(average.model.weight, before + 0.5)
    assert not average.model.weight.requires_grad
