from typing import Any

from models.planning import catalogue, views
from models.planning.plan import Plan, resolve
from topwork.types.training import TrainConfig


def plan(images: int = 200, shapes: dict[str, Any] | None = None, **config: Any) -> Plan:
    """Return the plan of a full fine-tuning at 224 px."""
    counts = {"train": {"cat": images // 2, "dog": images // 2}, "val": {"cat": 20, "dog": 20}}
    asked = {"architecture": "resnet18", "strategy": "full", **config}
    summary = {"classes": ["cat", "dog"], "counts": counts, "shapes": shapes}
    return resolve(TrainConfig.model_validate(asked), catalogue.get("resnet18"), summary)


def test_the_smallest_crop_fills_the_input() -> None:
    assert plan().canvas == 379
    assert "224 pixels" in plan().reasons["canvas"]
    assert plan(augmentation="strong").canvas == 792
    assert plan(augmentation="light").canvas == 249
    assert plan(hyperparameters={"image_size": 96}).canvas == 163


def test_nothing_is_kept_larger_than_the_images_are() -> None:
    small = plan(shapes={"largest": 48})
    assert small.canvas == 48
    assert "no image has more pixels" in small.reasons["canvas"]
    assert plan(shapes={"largest": 4000}).canvas == 379


def test_many_images_are_kept_smaller_and_never_below_the_input() -> None:
    many, more = plan(20_000), plan(2_000_000)
    assert many.canvas is not None
    assert 20_000 * 3 * many.canvas**2 <= views.MOST_BYTES
    assert 224 < many.canvas < 379
    assert "4 GB" in many.reasons["canvas"]
    assert more.canvas == 224


def test_without_a_crop_there_is_no_canvas() -> None:
    for one in (plan(augmentation="none"), plan(augmentation="none", erasing=0.2)):
        assert one.canvas is None
        assert "canvas" not in one.to_json()
    assert plan(hyperparameters={"image_size": 64}).canvas is None
    assert plan(strategy="head").canvas is None
