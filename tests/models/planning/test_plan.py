import math
from typing import Any

import pytest

from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.planning.rules import GIVEN
from topwork.errors import InvalidField
from topwork.types.training import Hyperparameters, TrainConfig


def plan(
    architecture: str = "mobilenet_v2",
    train: tuple[int, ...] = (120, 120),
    val: tuple[int, ...] = (70, 70),
    drawn: tuple[str, ...] = (),
    **config: Any,
) -> Plan:
    names = [f"class{number}" for number in range(len(train))]
    counts = {"train": dict(zip(names, train, strict=True))}
    if any(val):
        counts["val"] = dict(zip(names, val, strict=False))
    asked = TrainConfig.model_validate({"architecture": architecture, **config})
    summary = {"classes": names, "counts": counts, "drawn": list(drawn)}
    return resolve(asked, catalogue.get(architecture), summary)


def test_every_value_has_a_reason_and_no_auto_is_left() -> None:
    for one in (plan(), plan("lenet"), plan("resnet18", strategy="full"), plan("vit_b_16")):
        listed = one.to_json()
        assert all(entry["reason"] for entry in listed.values())
        assert "auto" not in [entry["value"] for entry in listed.values()]


def test_pretrained_networks_get_a_head_and_others_are_trained_whole() -> None:
    assert (plan().mode, plan().weights) == ("head", "imagenet")
    assert (plan("lenet").mode, plan("lenet").weights) == ("scratch", "none")
    assert plan("resnet18", strategy="full").mode == "tune"
    assert plan("resnet18", weights="none").mode == "scratch"
    assert plan("resnet18", weights="model:pets@3").mode == "head"


def test_the_plan_says_which_layer_is_the_head() -> None:
    for name in ("alexnet", "vgg13"):
        one = plan(name, strategy="head")
        assert one.head == "classifier.6"
        assert "other linear layers too" in one.reasons["head"]
    inception = plan("inception_v3", strategy="head")
    assert inception.head == "fc"
    assert "AuxLogits.fc are left out" in inception.reasons["head"]
    assert "so do AuxLogits.fc" in plan("inception_v3", strategy="full").reasons["head"]


def test_what_is_given_is_taken() -> None:
    one = plan(hyperparameters={"epochs": 7, "weight_decay": 0.5}, label_smoothing=0.2)
    assert (one.epochs, one.weight_decay, one.label_smoothing) == (7, 0.5, 0.2)
    assert one.reasons["epochs"] == one.reasons["weight_decay"] == GIVEN


def test_the_plan_says_how_processes_share_a_batch() -> None:
    two = plan("resnet18", weights="none", devices=2, hyperparameters={"batch_size": 9})
    assert two.devices == 2
    assert two.reasons["devices"] == f"{GIVEN}; each takes 4 to 5 of the 9 images of a batch"
    assert "each process's part on CPUs" in two.reasons["batch_norm"]
    staged = plan("resnet18", devices=2)
    assert [stage.devices for stage in staged.stages()] == [2] * len(staged.stages())


def test_few_images_make_batches_too_small_to_share() -> None:
    """Batch normalisation cannot learn from the one image that a process would get."""
    assert plan(train=(2, 2), devices=2).devices == 2
    with pytest.raises(InvalidField, match="batches of 3") as caught:
        plan(train=(2, 1), devices=2)
    assert caught.value.param == "devices"


@pytest.mark.parametrize(
    ("architecture", "config", "param"),
    [
        ("lenet", {"weights": "imagenet"}, "weights"),
        ("lenet", {"strategy": "head"}, "strategy"),
        ("lenet", {"hyperparameters": {"image_size": 64}}, "hyperparameters.image_size"),
        ("vgg13", {"hyperparameters": {"image_size": 16}}, "hyperparameters.image_size"),
        ("lenet", {"hyperparameters": {"batch_size": 1}}, "hyperparameters.batch_size"),
        ("resnet18", {"strategy": "full", "refit": True}, "refit"),
        ("lenet", {"devices": 5, "hyperparameters": {"batch_size": 9}}, "devices"),
    ],
)
def test_contradictions_name_the_field(
    architecture: str, config: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        plan(architecture, **config)
    assert caught.value.param == param


def test_skew_changes_metric_and_loss() -> None:
    even, skewed, very = plan(), plan(train=(400, 100)), plan(train=(1000, 20))
    assert (even.selection_metric, even.imbalance) == ("accuracy", "none")
    assert (skewed.selection_metric, skewed.imbalance) == ("macro_f1", "none")
    assert (very.selection_metric, very.imbalance) == ("macro_f1", "logit_adjustment")


def test_a_model_to_start_from_keeps_its_image_size() -> None:
    config = TrainConfig(architecture="resnet18", weights="model:pets@3")
    names = ["a", "b"]
    summary = {"classes": names, "counts": {"train": dict.fromkeys(names, 9)}}
    one = resolve(config, catalogue.get("resnet18"), summary, parent_size=160)
    assert one.image_size == 160
    assert "start from" in one.reasons["image_size"]
    asked = config.model_copy(update={"hyperparameters": Hyperparameters(image_size=96)})
    assert resolve(asked, catalogue.get("resnet18"), summary, parent_size=160).image_size == 96


def test_small_networks_from_scratch_take_larger_steps() -> None:
    small, large = plan("lenet"), plan("resnet18", weights="none")
    assert small.learning_rate > large.learning_rate
    assert small.weight_decay is not None
    assert large.weight_decay is not None
    assert small.weight_decay < large.weight_decay
    assert plan("nin", hyperparameters={"optimizer": "sgd"}).learning_rate <= 0.02


@pytest.mark.parametrize("metric", ["auto", "accuracy"])
def test_without_validation_images_the_loss_decides(metric: str) -> None:
    one = plan(val=(), selection_metric=metric)
    assert one.selection_metric == "loss"
    assert "no validation images" in one.reasons["selection_metric"]


def test_more_images_mean_fewer_epochs_and_a_longer_estimate() -> None:
    few, many = plan("lenet"), plan("lenet", train=(25_000, 25_000))
    assert few.epochs > many.epochs
    assert few.eta_seconds < many.eta_seconds < math.inf


@pytest.mark.parametrize("name", catalogue.names())
@pytest.mark.parametrize("strategy", ["auto", "full"])
def test_there_is_a_plan_for_every_network(name: str, strategy: str) -> None:
    assert plan(name, train=(1, 1), val=(), strategy=strategy).epochs >= 1


@pytest.mark.parametrize("strategy", ["auto", "head", "gradual"])
def test_only_drawn_validation_images_train_without_a_word(strategy: str) -> None:
    drawn = plan(strategy=strategy, drawn=("val",))
    assert drawn.refit
    assert "140 validation images were drawn" in drawn.reasons["refit"]
    assert not plan(strategy=strategy, drawn=("test",)).refit
    assert plan(strategy=strategy, refit=True).refit
    assert not plan(strategy=strategy, drawn=("val",), refit=False).refit
    assert not plan(strategy=strategy, val=(), drawn=("val",), refit=True).refit
    full = plan(strategy="full", drawn=("val",))
    assert not full.refit
    assert "refit" not in full.to_json()


STEPPED: list[dict[str, Any]] = [
    {"hyperparameters": {"epochs": 5}},
    {"hyperparameters": {"learning_rate": 0.1}},
    {"hyperparameters": {"optimizer": "sgd"}},
    {"hyperparameters": {"weight_decay": 0.1}},
    {"imbalance": "weighted_sampling"},
    {"augmentation": "light"},
    {"erasing": 0.1},
    {"ema": 0.9},
    {"devices": 2},
]


def test_a_linear_head_takes_no_steps_unless_some_are_asked_for() -> None:
    computed = plan()
    assert computed.optimizer == "lbfgs"
    assert "convex" in computed.reasons["optimizer"]
    shown = computed.to_json()
    assert shown.keys().isdisjoint({"epochs", "batch_size", "learning_rate", "schedule"})
    assert "full.epochs" in shown
    assert plan(imbalance="logit_adjustment", label_smoothing=0.1).optimizer == "lbfgs"
    assert plan(devices=1, augmentation="none", ema="off").optimizer == "lbfgs"
    for config in STEPPED:
        assert plan(**config).optimizer != "lbfgs", config
    assert plan("squeezenet1_1").optimizer == "adamw"
    assert plan(train=(50_000, 50_000)).optimizer == "adamw"
    assert plan(train=(30,) * 2000, val=()).optimizer == "adamw"
    # Few numbers, but of so many classes that the search would take minutes.
    assert plan(train=(20,) * 100, val=()).optimizer == "lbfgs"
    assert plan(train=(3,) * 1000, val=()).optimizer == "adamw"


@pytest.mark.parametrize(
    ("largest", "asked", "expected"),
    [
        (4095, "auto", ("range", 4095)),
        (3000, "auto", ("range", 4095)),
        (200, "auto", ("range", 255)),
        (40_000, "auto", ("declared", None)),
        (4095, "declared", ("declared", None)),
        (40_000, "range", ("range", 65_535)),
    ],
)
def test_unused_bits_are_no_part_of_the_range(
    largest: int, asked: str, expected: tuple[str, int | None]
) -> None:
    config = TrainConfig.model_validate({"architecture": "resnet18", "sixteen_bit": asked})
    names = ["a", "b"]
    wide = {"images": 9, "largest": largest, "white": 65_535}
    summary = {"classes": names, "counts": {"train": dict.fromkeys(names, 9)}, "sixteen_bit": wide}
    one = resolve(config, catalogue.get("resnet18"), summary)
    assert (one.sixteen_bit, one.white) == expected
    assert "sixteen_bit" in one.to_json()
    assert "sixteen_bit" not in plan().to_json()
