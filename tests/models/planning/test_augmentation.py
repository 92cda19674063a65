from typing import Any

import pytest

from models.planning import catalogue
from models.planning.plan import Plan, resolve
from topwork.errors import InvalidField
from topwork.types.training import TrainConfig


def plan(*classes: str, architecture: str = "lenet", **config: Any) -> Plan:
    counts = {"train": dict.fromkeys(classes, 50), "val": dict.fromkeys(classes, 10)}
    asked = TrainConfig.model_validate({"architecture": architecture, **config})
    summary = {"classes": list(classes), "counts": counts}
    return resolve(asked, catalogue.get(architecture), summary)


@pytest.mark.parametrize(
    "classes",
    [("0", "1"), ("00012", "00013"), ("a", "b"), ("cat", "Zero"), ("turn_left", "turn-right")],
)
def test_what_has_sides_is_never_mirrored(classes: tuple[str, ...]) -> None:
    one = plan(*classes)
    assert one.augmentation == "light"
    assert "mirroring" in one.reasons["augmentation"]
    assert plan(*classes, architecture="resnet18", strategy="full").augmentation == "light"
    assert plan(*classes, augmentation="standard").augmentation == "standard"


def test_things_are_mirrored() -> None:
    for classes in (("cat", "dog"), ("ants", "bees"), ("type_2", "type_3"), ("leftover", "food")):
        assert plan(*classes).augmentation == "standard"


def test_strong_brings_a_policy_and_erasing() -> None:
    weak, strong = plan("cat", "dog"), plan("cat", "dog", augmentation="strong")
    assert (weak.augmentation_policy, weak.erasing, weak.mixup, weak.cutmix) == ("none", 0, 0, 0)
    assert (strong.augmentation_policy, strong.erasing) == ("trivial_augment", 0.25)
    given = plan("cat", "dog", augmentation_policy="rand_augment", erasing=0.1, mixup=0.2)
    assert (given.augmentation_policy, given.erasing, given.mixup) == ("rand_augment", 0.1, 0.2)
    assert given.reasons["mixup"] == "as given"


@pytest.mark.parametrize("field", ["mixup", "cutmix"])
def test_a_frozen_trunk_mixes_nothing(field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        plan("cat", "dog", architecture="resnet18", strategy="head", **{field: 0.5})
    assert caught.value.param == field


def test_views_of_a_frozen_trunk_are_announced() -> None:
    one = plan("cat", "dog", architecture="resnet18", strategy="head", erasing=0.5)
    assert "views" in one.reasons["augmentation"]
