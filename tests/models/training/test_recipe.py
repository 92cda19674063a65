import dataclasses
import itertools

import pytest
import torch
from torch import nn

from models.compute import memory
from models.networks import zoo
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.training import recipe
from topwork.types.training import TrainConfig

SUMMARY = {"classes": ["a", "b"], "counts": {"train": {"a": 50, "b": 50}, "val": {"a": 5}}}


@pytest.fixture
def plan() -> Plan:
    config = TrainConfig(architecture="resnet18", strategy="full")
    return resolve(config, catalogue.get("resnet18"), SUMMARY)


def test_vectors_are_not_decayed_and_the_trunk_learns_slower(plan: Plan) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = recipe.optimizer(plan, model, ("3",))
    seen = {
        (group["factor"], group["weight_decay"]): [tuple(value.shape) for value in group["params"]]
        for group in optimizer.param_groups
    }
    assert seen == {
        (1.0, plan.weight_decay): [(2, 4)],
        (1.0, 0.0): [(2,)],
        (0.1, plan.weight_decay): [(4, 3, 3, 3)],
        (0.1, 0.0): [(4,), (4,), (4,)],
    }
    recipe.set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 0.05, 0.05]


def test_tokens_and_tables_of_positions_are_not_decayed(plan: Plan) -> None:
    """Their shapes look like those of matrices; all there are in the networks are found here."""
    found = {
        name.rpartition(".")[2]
        for architecture in ("vit_b_16", "swin_v2_t", "maxvit_t", "convnext_tiny", "densenet121")
        for model in [zoo.shell(architecture)]
        for group in recipe.optimizer(plan, model, ("head",)).param_groups
        for name, value in model.named_parameters()
        if not group["weight_decay"] and any(value is one for one in group["params"])
        if value.dim() > 1
    }
    tables = {"class_token", "pos_embedding", "layer_scale", "logit_scale"}
    assert found == {*tables, "relative_position_bias_table"}


def test_a_head_is_not_found_in_a_layer_whose_name_begins_alike(plan: Plan) -> None:
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), "fc2": nn.Linear(2, 2)})
    optimizer = recipe.optimizer(plan, model, ("fc",))
    assert sum(len(g["params"]) for g in optimizer.param_groups if g["factor"] == 1.0) == 2


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_the_rate_rises_to_its_peak_and_falls(plan: Plan, schedule: str) -> None:
    plan = dataclasses.replace(plan, schedule=schedule, epochs=10, warmup_epochs=2.0)
    rates = [recipe.rate_at(plan, step, 20) for step in range(200)]
    assert all(a < b for a, b in itertools.pairwise(rates[:41]))
    assert max(rates) == rates[40] == pytest.approx(plan.learning_rate)
    if schedule == "constant":
        assert set(rates[40:]) == {plan.learning_rate}
    else:
        assert all(a > b for a, b in itertools.pairwise(rates[40:]))
        assert rates[-1] < 0.001 * plan.learning_rate
    assert min(rates) > 0


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.0), (1, 100.0), (3, 3.0)])
def test_odd_schedules_stay_finite(plan: Plan, epochs: int, warmup: float) -> None:
    plan = dataclasses.replace(plan, epochs=epochs, warmup_epochs=warmup)
    for step in range(epochs):
        assert 0 < recipe.rate_at(plan, step, 1) <= plan.learning_rate


def test_logit_adjustment_favours_the_rare_class(plan: Plan) -> None:
    labels = torch.tensor([0] * 98 + [1] * 2)
    plan = dataclasses.replace(plan, label_smoothing=0.0)
    plain = recipe.loss(plan, labels, 2, "cpu")
    adjusted = recipe.loss(
        dataclasses.replace(plan, imbalance="logit_adjustment"), labels, 2, "cpu"
    )
    even = torch.zeros(1, 2)
    rare, common = torch.tensor([1]), torch.tensor([0])
    assert float(plain(even, rare)) == pytest.approx(float(plain(even, common)))
    assert float(adjusted(even, rare)) == pytest.approx(-torch.tensor(0.02).log().item())
    assert float(adjusted(even, common)) == pytest.approx(-torch.tensor(0.98).log().item())


def test_a_class_without_training_images_keeps_the_loss_finite(plan: Plan) -> None:
    plan = dataclasses.replace(plan, imbalance="logit_adjustment")
    compute = recipe.loss(plan, torch.tensor([0, 0, 1]), 3, "cpu")
    assert compute(torch.zeros(1, 3), torch.tensor([2])).isfinite()


def test_batch_norm_that_several_gpus_share_is_frozen_as_well() -> None:
    one = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)).train()
    model = nn.SyncBatchNorm.convert_sync_batchnorm(one)
    assert memory.counts_batches(model)
    recipe.freeze_batch_norm(model)
    assert not memory.counts_batches(model)
    assert not model[0].training


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    recipe.freeze_batch_norm(model)
    model(torch.randn(8, 3) + 5)
    assert model[0].running_mean.abs().max() == 0  # type: ignore[operator]  # A tensor.
    assert model[1].training
