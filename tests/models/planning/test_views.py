from typing import Any

from models.planning import catalogue, views
from models.planning.plan import Plan, resolve
from topwork.types.training import TrainConfig


def plan(images: int = 200, shapes: dict[str, Any] | None = None, **config: Any) -> Plan:
    """Return the plan of a full fine-tuning at 224 px."""
    counts = {"train": {"cat": images // 2, "dog": images // 2}, "val": {"cat": 20, "dog": 20}}
    asked = {"architecture": "resnet18", "strategy": "full", **config}
    summary = {"classes": ["cat", "dog"], "counts": counts, "shapes": shapes}
    parent = (160, "squash") if "weights" in config else ()
    return resolve(TrainConfig.model_validate(asked), catalogue.get("resnet18"), summary, *parent)


def long(images: int) -> dict[str, Any]:
    """Of 240 images so many are longer than 2:1."""
    return {"largest": 500, "elongated": images, "unseen": 0.7 if images else 0.0}


def test_many_elongated_images_are_padded() -> None:
    one = plan(shapes=long(24))
    assert one.fit == "pad"
    assert "24 of 240 images are longer than 2:1, of which 70% is never" in one.reasons["fit"]
    assert plan(shapes=long(24), strategy="head").fit == "pad"


def test_few_are_cropped_and_the_plan_says_what_is_never_seen() -> None:
    one = plan(shapes=long(23))
    assert one.fit == "crop"
    assert "23 of 240 images" in one.reasons["fit"]
    assert "no image is longer" in plan(shapes=long(0)).reasons["fit"]
    assert "not known here" in plan().reasons["fit"]


def test_what_is_asked_for_is_taken_and_what_it_costs_is_said() -> None:
    assert plan(shapes=long(200), fit="squash").reasons["fit"] == "as given"
    given = plan(shapes=long(200), fit="crop")
    assert given.fit == "crop"
    assert given.reasons["fit"].startswith("as given; 200 of 240 images")


def test_a_model_to_start_from_hands_on_how_it_sees() -> None:
    assert plan(weights="model:pets@3", shapes=long(200)).fit == "squash"
    assert plan(weights="model:pets@3", fit="crop").fit == "crop"


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
