from typing import Any

import pytest
import torch

from core.domain.comparison import QUANTILE, calibration_error, compare, evaluated
from models.evaluation import metrics
from topwork.errors import NotComparable
from topwork.types.comparisons import Comparison

CLASSES = ["cat", "dog"]


def lines(labels: str, split: str = "test", first: int = 0) -> list[dict[str, Any]]:
    """One image for each letter, by turns a cat and a dog; the letter is what it is taken for."""
    return [
        {
            "sha256": f"{first + number:064}",
            "path": f"{first + number}.png",
            "split": split,
            "class": CLASSES[number % 2],
            "label": {"c": "cat", "d": "dog"}[letter],
            "confidence": 0.5 + number / 100,
        }
        for number, letter in enumerate(labels)
    ]


def judge(old: list[dict[str, Any]], new: list[dict[str, Any]], **options: Any) -> Comparison:
    defaults: dict[str, Any] = {"model": "pets", "numbers": (1, 2), "classes": (CLASSES, CLASSES)}
    return compare(evaluated(old), evaluated(new), **(defaults | options))


def test_each_class_is_judged_on_the_same_images() -> None:
    found = judge(lines("cdcdcc"), lines("cdcccd"))
    assert (found.split, found.left_out) == ("test", 0)
    assert (found.accuracy.images, found.accuracy.fixed, found.accuracy.broken) == (6, 1, 1)
    assert found.accuracy.change == 0
    dog, cat = found.per_class[1], found.per_class[0]
    assert [one.class_name for one in found.per_class] == ["cat", "dog"]
    assert (cat.old, cat.new, cat.change) == (1, 1, 0)
    assert (dog.old, dog.new, dog.fixed, dog.broken) == (2 / 3, 2 / 3, 1, 1)
    (broken,) = found.broken
    assert (broken.path, broken.class_name, broken.predicted) == ("3.png", "dog", "cat")


def test_the_class_that_loses_most_comes_first() -> None:
    found = judge(lines("cdcd"), lines("cccd"))
    assert [(one.class_name, one.change) for one in found.per_class] == [("dog", -0.5), ("cat", 0)]


def test_images_that_one_version_may_have_trained_on_do_not_count() -> None:
    old, new = lines("cdcd") + lines("cd", "val", 10), lines("cd") + lines("cdcd", "val", 10)
    found = judge(old, new)
    assert (found.split, found.accuracy.images, found.left_out) == ("test", 2, 2)
    found = judge(old, new, split="val")
    assert (found.split, found.accuracy.images, found.left_out) == ("val", 2, 2)
    relabelled = [{**line, "class": "dog"} for line in lines("cdcd")]
    assert judge(lines("cdcd"), relabelled).accuracy.images == 2
    for apart in (lines("cd", "val"), lines("cd", first=9), []):
        with pytest.raises(NotComparable):
            judge(lines("cd"), apart)


def test_a_class_that_is_gone_or_has_no_image_is_told() -> None:
    found = judge(lines("cd"), lines("cd"), classes=(["cat", "dog", "eel"], ["cat", "dog"]))
    assert found.lost_classes == ["eel"]
    eel = found.per_class[-1]
    assert (eel.class_name, eel.images, eel.change, eel.low) == ("eel", 0, None, None)


def test_equal_answers_have_an_interval_that_narrows_with_images() -> None:
    widths = []
    for images in (10, 100, 1000):
        found = judge(lines("cd" * (images // 2)), lines("cd" * (images // 2))).accuracy
        assert found.low is not None
        assert found.high == -found.low
        widths.append(found.low)
    assert widths == sorted(widths)
    assert widths[0] == pytest.approx(-QUANTILE / 12)


def test_the_interval_holds_the_true_change() -> None:
    generator = torch.Generator().manual_seed(3)
    held = 0
    for _ in range(300):
        draws = torch.rand(2, 120, generator=generator)
        old = "".join("c" if draw < 0.8 else "d" for draw in draws[0].tolist())
        new = "".join("c" if draw < 0.9 else "d" for draw in draws[1].tolist())
        cats = [[{**line, "class": "cat"} for line in lines(one)] for one in (old, new)]
        change = judge(*cats).accuracy
        held += (change.low or 0) <= 0.1 <= (change.high or 0)
    assert held >= 0.92 * 300  # Stated are 95 %.


def test_the_calibration_error_is_that_of_the_evaluation() -> None:
    generator = torch.Generator().manual_seed(1)
    confidence = torch.rand(200, generator=generator).double()
    said = [
        {**line, "confidence": value}
        for line, value in zip(lines("cdcc" * 50), confidence.tolist(), strict=True)
    ]
    correct = torch.tensor([line["class"] == line["label"] for line in said])
    expected = metrics.calibration_error(metrics.reliability(confidence, correct))
    found = evaluated(said)["test"]
    assert calibration_error(found, sorted(found)) == pytest.approx(expected)


def test_lines_of_an_earlier_trainer_say_nothing() -> None:
    assert evaluated([{"label": "cat"}]) == {"test": {}, "val": {}}
