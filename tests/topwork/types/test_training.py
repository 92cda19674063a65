import json
from typing import Any

import pytest
from pydantic import ValidationError

from topwork.types.training import Hyperparameters, TrainConfig


def errors(**fields: Any) -> list[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({"architecture": "lenet", **fields})
    return [error["loc"] for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1001),
        ("epochs", 2.5),
        ("epochs", True),
        ("epochs", None),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "0.1"),
        ("weight_decay", -0.1),
        ("weight_decay", float("nan")),
        ("momentum", 1.0),
        ("trunk_factor", 0.0),
        ("warmup_epochs", -1.0),
        ("image_size", 7),
        ("image_size", 1025),
        ("optimizer", "adam"),
        ("schedule", "step"),
    ],
)
def test_a_bad_hyperparameter_is_one_error_at_its_place(name: str, value: object) -> None:
    (where,) = errors(hyperparameters={name: value})
    assert where[:2] == ("hyperparameters", name)


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": ""},
        {"architecture": "../../etc"},
        {"epochs": 3},
        {"hyperparameters": {"epocs": 3}},
        {"weights": "model:"},
        {"weights": "imagenet21k"},
        {"label_smoothing": 1.0},
        {"split": {"val": 0.5, "test": 0.5}},
        {"split": {"val": float("nan")}},
        {"limits": {"max_minutes": 0}},
        {"limits": {"max_minutes": float("inf")}},
        {"early_stopping": {"patience": 0}},
        {"devices": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": 1.5},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    assert errors(**fields)


def test_every_hyperparameter_is_automatic_unless_given() -> None:
    config = TrainConfig(architecture="lenet")
    assert set(config.hyperparameters.model_dump().values()) == {"auto"}
    given = Hyperparameters(epochs=3, learning_rate=1, momentum=0)
    assert (given.epochs, given.learning_rate, given.momentum) == (3, 1.0, 0.0)


def test_a_config_survives_json() -> None:
    config = TrainConfig(
        architecture="resnet18",
        weights="model:pets@3",
        hyperparameters=Hyperparameters(epochs=7),
        early_stopping=None,
        label_smoothing=0.05,
    )
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_the_schema_describes_every_field() -> None:
    schema = TrainConfig.model_json_schema()
    parts = schema["$defs"]["Hyperparameters"]["properties"]
    assert all(field.get("description") for field in parts.values())
    assert "NaN" not in json.dumps(schema)
