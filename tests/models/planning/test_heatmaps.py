"""Each family has a layer whose maps explain it, or a reason."""

from typing import Any

import pytest

from models.planning import catalogue, heatmaps


def test_each_family_is_in_the_table() -> None:
    assert heatmaps.FAMILIES.keys() == {catalogue.get(name).family for name in catalogue.names()}


def test_a_network_has_a_layer_or_a_reason() -> None:
    for name in catalogue.names():
        assert (heatmaps.source(name) is None) == bool(heatmaps.unsupported(name)), name


@pytest.mark.parametrize(
    ("architecture", "engine", "words"),
    [
        ("resnet18", {"name": "onnxruntime", "heatmap": True}, None),
        ("resnet18", {"name": "torch"}, None),
        ("resnet18", None, None),
        ("resnet18", {"name": "onnxruntime"}, "earlier version"),
        ("vgg11", {"name": "torch"}, "several layers"),
        ("unheard_of", None, "not known"),
        (None, None, "not known"),
    ],
)
def test_what_a_card_says_of_its_maps(
    architecture: str | None, engine: dict[str, Any] | None, words: str | None
) -> None:
    why = heatmaps.unavailable({"architecture": architecture, "engine": engine})
    assert (why is None) == (words is None)
    assert (words or "") in (why or "")
