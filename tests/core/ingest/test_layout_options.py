"""Each answer that a question offers works, and one of them is what was meant."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ingest import layout_options
from core.ingest.layout import Reading, read_layout
from core.ingest.layout_options import read_or_ask
from core.ingest.split_folders import NO_ANSWER, LayoutAnswer
from topwork.errors import LayoutAmbiguous


def options(*files: str) -> list[Mapping[str, Any]]:
    with pytest.raises(LayoutAmbiguous) as caught:
        read_or_ask(files, (), (), NO_ANSWER)
    return list(caught.value.options)


@pytest.mark.parametrize(
    ("files", "meant", "classes"),
    [
        (["train/cat.0.jpg", "train/dog.0.jpg"], {"classes": "filename"}, "cat, dog"),
        (["cat/a/1.jpg", "dog/a/1.jpg"], {"classes": "outer"}, "cat, dog"),
        (["a/cat/1.jpg", "b/dog/1.jpg"], {"classes": "inner"}, "cat, dog"),
        (["train/1.jpg", "bus/1.jpg", "car/1.jpg"], {"train": (".",)}, "bus, car, train"),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "extra/1.jpg"],
            {"train": ("train",), "ignore": ("extra",)},
            "a, b",
        ),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "more/a/1.jpg"],
            {"train": ("train", "more")},
            "a, b",
        ),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "valid/b/3.jpg"],
            {"train": ("train",), "val": ("val", "valid")},
            "a, b",
        ),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "val/1.jpg"],
            {"train": ("train",), "ignore": ("val",)},
            "a, b",
        ),
        (["test/a/1.jpg", "test/b/1.jpg"], {"train": ("test",)}, "a, b"),
    ],
)
def test_what_was_meant_is_offered(files: list[str], meant: dict[str, Any], classes: str) -> None:
    offered = {json.dumps(option["value"]): option["meaning"] for option in options(*files)}
    assert json.dumps(meant) in offered
    assert f"({classes})" in offered[json.dumps(meant)]


def test_file_names_that_come_in_order_show_more_than_the_first_class() -> None:
    files = [f"train/{name}.{n}.jpg" for name in ("cat", "dog", "owl") for n in range(5000)]
    (option,) = options(*files)
    assert "(cat, dog, owl)" in option["meaning"]


def test_of_very_many_folders_some_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def counting(files: Sequence[str], *given: Any, **named: Any) -> Reading:
        tried.append(len(files))
        return read_layout(files, *given, **named)

    monkeypatch.setattr(layout_options, "read_layout", counting)
    offered = options(*(f"{outer}/{inner}/1.jpg" for outer in range(200) for inner in range(200)))
    assert tried[0] == 40_000
    assert max(tried[1:]) <= layout_options.MOST_TRIED
    assert {"classes": "outer"} in [option["value"] for option in offered]


NAMES = st.sampled_from(["train", "val", "test", "cat", "dog", "more", "seg_train", "seg_pred"])
FILES = st.sampled_from(["cat.1.jpg", "dog.2.jpg", "3.jpg"])
PATHS = st.tuples(st.lists(NAMES, min_size=1, max_size=4), FILES).map(
    lambda it: "/".join([*it[0], it[1]])
)


@settings(deadline=None, database=None)
@given(st.lists(PATHS, unique=True, max_size=12))
def test_every_answer_that_is_offered_works(files: list[str]) -> None:
    try:
        read_or_ask(files, (), (), NO_ANSWER)
    except LayoutAmbiguous as question:
        for option in question.options:
            answer = LayoutAnswer.of({"layout": option["value"]})
            reading = read_layout(files, answer=answer)
            told = {*reading.places, *(refusal.path for refusal in reading.refusals)}
            assert told == set(files)
            assert len({place.class_name for place in reading.places.values()}) > 1
