"""How folder trees are read, and which are refused as ambiguous."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ingest.class_names import MAX_CLASSES, class_name_problem
from core.ingest.layout import Reading, read_layout
from core.ingest.split_folders import LayoutAnswer
from topwork.errors import DatasetInvalid, LayoutAmbiguous


def read(*files: str, folders: tuple[str, ...] = ()) -> dict[str, tuple[str | None, str]]:
    places = read_layout(files, folders).places
    return {path: (place.split, place.class_name) for path, place in places.items()}


def test_one_folder_per_class() -> None:
    assert read("cat/1.jpg", "dog/1.jpg") == {
        "cat/1.jpg": (None, "cat"),
        "dog/1.jpg": (None, "dog"),
    }


@pytest.mark.parametrize("root", ["", "pets/", "upload/pets/v1/"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "Valid", "VAL"])
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_splits_under_any_root(root: str, train: str, val: str) -> None:
    files = [f"{root}{train}/cat/1.jpg", f"{root}{train}/dog/1.jpg", f"{root}{val}/dog/2.jpg"]
    places = [("train", "cat"), ("train", "dog"), ("val", "dog")]
    assert read(*files) == dict(zip(files, places, strict=True))


def test_a_test_split_is_never_the_validation_split() -> None:
    reading = read_layout(["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg"])
    assert reading.splits == ["train", "test"]
    assert reading.places["test/a/2.jpg"].split == "test"


def test_only_folder_names_count() -> None:
    assert set(read("cat/train.jpg", "cat/test_val.jpg", "dog/valid.png").values()) == {
        (None, "cat"),
        (None, "dog"),
    }


def test_files_without_a_class_are_skipped() -> None:
    reading = read_layout(["x.jpg", "root/y.jpg", "root/cat/1.jpg", "root/dog/1.jpg"])
    assert set(reading.places) == {"root/cat/1.jpg", "root/dog/1.jpg"}
    assert {(refused.path, refused.code) for refused in reading.refusals} == {
        ("x.jpg", "no_class"),
        ("root/y.jpg", "no_class"),
    }


def test_loose_files_in_a_split_are_skipped() -> None:
    reading = read_layout(["train/cat/1.jpg", "train/dog/1.jpg", "train/x.jpg", "val/dog/2.jpg"])
    assert [refused.path for refused in reading.refusals] == ["train/x.jpg"]


def test_empty_class_folders_are_declared() -> None:
    reading = read_layout(["cat/1.jpg", "dog/1.jpg"], ["cat", "dog", "owl"])
    assert (None, "owl") in reading.declared
    reading = read_layout(["train/cat/1.jpg", "val/cat/2.jpg"], ["train/owl", "val/dog"])
    assert reading.declared == {
        ("train", "cat"),
        ("train", "owl"),
        ("val", "cat"),
        ("val", "dog"),
    }


def test_deeper_files_belong_to_a_class_that_has_images_of_its_own() -> None:
    reading = read_layout(["cat/1.jpg", "cat/more/2.jpg", "dog/1.jpg"])
    assert reading.places["cat/more/2.jpg"].class_name == "cat"
    assert reading.nested == ["cat/more/2.jpg"]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        # A split's name beside ordinary class names.
        (["train/1.jpg", "bus/1.jpg", "car/1.jpg"], ["train", "bus"]),
        (["train/a/1.jpg", "train/b/1.jpg", "extra/1.jpg"], ["train", "extra"]),
        # Splits without classes, or two classes named like splits.
        (["train/1.jpg", "test/1.jpg"], ["train", "test"]),
        # Two names for one split.
        (["train/a/1.jpg", "val/a/2.jpg", "valid/a/3.jpg"], ["val", "valid"]),
        # Nothing to train on.
        (["test/a/1.jpg", "test/b/1.jpg"], ["test", "train"]),
        # Groups of classes, or classes with groups.
        (["mammal/cat/1.jpg", "bird/owl/1.jpg"], ["bird, mammal", "mammal/cat"]),
        # Classes above splits.
        (["cat/train/1.jpg", "cat/val/2.jpg", "dog/train/3.jpg"], ["cat", "cat/train"]),
        # Two roots.
        (["v1/train/a/1.jpg", "v2/train/a/2.jpg"], ["v1", "v2"]),
        # Class names that differ in case only.
        (["train/Cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg"], ["Cat", "cat"]),
    ],
)
def test_ambiguous_trees_are_refused_with_both_readings(files: list[str], named: list[str]) -> None:
    with pytest.raises(LayoutAmbiguous) as caught:
        read(*files)
    assert "; or as " in caught.value.message
    assert caught.value.hint
    for name in named:
        assert name in caught.value.message


def named(classes: str, *splits: str) -> dict[str, Any]:
    """Return files `SPLIT/CLASS/1.jpg` for every pair."""
    return {f"{split}/{name}/1.jpg": (split, name) for split in splits for name in classes}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training_set", "validation_set", "test_set"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("train/train", "val/val", "test/test"),
        ("trainset", "valset", "testset"),
        ("Train Images", "Valid Images", "Test Images"),
        ("train/images", "val/images", "test/images"),
        ("pets-train", "pets-dev", "pets-test"),
        ("train", "dev", "tst"),
        ("a/b/c/d/e/f/g/h/train", "a/b/c/d/e/f/g/h/val", "a/b/c/d/e/f/g/h/test"),
    ],
)
def test_splits_as_people_name_them(train: str, val: str, test: str) -> None:
    places = read(*named("ab", train, val, test))
    means = {train: "train", val: "val", test: "test"}
    assert places == {
        path: (means[split], name) for path, (split, name) in named("ab", train, val, test).items()
    }


@pytest.mark.parametrize("classes", [("devices", "trains"), ("dev", "ops"), ("strain", "pretest")])
def test_classes_whose_names_hold_those_of_splits(classes: tuple[str, ...]) -> None:
    files = [f"{name}/1.jpg" for name in classes]
    assert {place for _, place in read(*files).values()} == set(classes)


@pytest.mark.parametrize("flat", ["test", "Testing", "unlabelled", "seg_pred/seg_pred"])
def test_images_without_labels_beside_the_splits_are_skipped(flat: str) -> None:
    train = "seg_train" if flat.startswith("seg") else "train"
    val = "seg_val" if flat.startswith("seg") else "val"
    reading = read_layout([*named("ab", train, val), f"{flat}/1.jpg", f"{flat}/2.jpg"])
    assert reading.splits == ["train", "val"]
    assert {(it.path, it.code) for it in reading.refusals} == {
        (f"{flat}/1.jpg", "unlabelled"),
        (f"{flat}/2.jpg", "unlabelled"),
    }


NESTED = ["mammal/cat/1.jpg", "mammal/dog/2.jpg", "bird/owl/3.jpg", "bird/cat/4.jpg"]
IN_NAMES = [
    "train/cat.0.jpg",
    "train/dog.0.jpg",
    "train/american_bulldog_12.jpg",
    "train/owl (3).jpg",
]


@pytest.mark.parametrize(
    ("files", "answer", "classes"),
    [
        (NESTED, {"classes": "outer"}, ["mammal", "mammal", "bird", "bird"]),
        (NESTED, {"classes": "inner"}, ["cat", "dog", "owl", "cat"]),
        (NESTED, {"classes": "path"}, ["mammal/cat", "mammal/dog", "bird/owl", "bird/cat"]),
        (NESTED, {"ignore": ["bird"]}, ["cat", "dog", None, None]),
        (NESTED, {"ignore": ["bird/cat"], "classes": "inner"}, ["cat", "dog", "owl", None]),
        (NESTED, {"train": ["mammal", "bird"]}, ["cat", "dog", "owl", "cat"]),
        (NESTED, {"train": ["mammal"], "test": ["bird"]}, ["cat", "dog", "owl", "cat"]),
        (NESTED, {"train": ["."], "classes": "outer"}, ["mammal", "mammal", "bird", "bird"]),
        (NESTED, {"train": ["."], "test": ["bird"]}, None),
        (IN_NAMES, {"classes": "filename"}, ["cat", "dog", "american_bulldog", "owl"]),
        ([f"x/y/{path}" for path in NESTED], {"train": ["mammal"], "ignore": ["x/y/bird"]},
         ["cat", "dog", None, None]),
        (["train/1.jpg", "bus/1.jpg", "car/1.jpg"], {"train": ["."]}, ["train", "bus", "car"]),
        (["val/a/1.jpg", "valid/b/2.jpg"], {"train": ["val", "valid"]}, ["a", "b"]),
    ],
)  # fmt: skip
def test_an_answer_settles_what_folders_mean(
    files: list[str], answer: dict[str, Any], classes: list[str | None] | None
) -> None:
    given = LayoutAnswer.of({"layout": answer})
    if classes is None:
        with pytest.raises(LayoutAmbiguous):
            read_layout(files, answer=given)
        return
    reading = read_layout(files, answer=given)
    found = [reading.places[path].class_name if path in reading.places else None for path in files]
    assert found == classes
    ignored = [it.path for it in reading.refusals if it.code == "ignored"]
    assert ignored == [path for path, name in zip(files, classes, strict=True) if name is None]
    for split in ("train", "val", "test"):
        for folder in answer.get(split, []):
            inside = [p for p in files if f"/{folder}/" in f"/{p}" and p in reading.places]
            assert {reading.places[path].split for path in inside} <= {split}


def test_a_split_within_another_one_is_taken_out_of_it() -> None:
    files = ["a/1.jpg", "b/2.jpg", "held/a/3.jpg", "held/b/4.jpg"]
    answer = LayoutAnswer(train=(".",), test=("held",))
    places = read_layout(files, answer=answer).places
    assert [places[path].split for path in files] == ["train", "train", "test", "test"]
    assert [places[path].class_name for path in files] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("classes", ["outer", "inner", "path"])
def test_an_empty_class_is_declared_whatever_names_it(classes: str) -> None:
    answer = LayoutAnswer.of({"layout": {"classes": classes}})
    names = {"outer": "fish", "inner": "pike", "path": "fish/pike"}
    declared = read_layout(NESTED, ["fish", "fish/pike"], answer=answer).declared
    assert (None, names[classes]) in declared


def test_the_way_out_of_ambiguity_works() -> None:
    files = ["train/train/1.jpg", "train/bus/1.jpg", "train/test/1.jpg"]
    assert set(read(*files).values()) == {("train", "train"), ("train", "bus"), ("train", "test")}


@pytest.mark.parametrize("name", ["x" * 101, "a\u200fb", "a\tb", " ", "a\x1bb"])
def test_odd_class_names_are_rejected_by_name(name: str) -> None:
    reading = read_layout([f"{name}/1.jpg", "cat/1.jpg"])
    assert [refused.code for refused in reading.refusals] == ["class_name_invalid"]
    assert set(reading.places) == {"cat/1.jpg"}


def test_odd_but_printable_class_names_are_kept() -> None:
    for name in ("<script>alert(1)</script>"[:8], "=cmd", "été", "猫", "x" * 100, "two words"):
        assert class_name_problem(name) is None
    assert class_name_problem("e\u0301") is not None


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(DatasetInvalid, match="5001"):
        read_layout(f"{number}/1.jpg" for number in range(MAX_CLASSES + 1))


NAMES = st.sampled_from(["train", "val", "test", "cat", "dog", "Cat", "x.jpg", "more"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/".join([*parts, "f.jpg"]))


def outcome(files: list[str]) -> Reading | str:
    try:
        return read_layout(files)
    except LayoutAmbiguous as error:
        return f"{error.message} {error.hint}"


@settings(deadline=None, database=None)
@given(st.lists(PATHS, unique=True, max_size=12))
def test_every_file_is_placed_or_refused_whatever_the_order(files: list[str]) -> None:
    reading, again = outcome(files), outcome(sorted(files, reverse=True))
    if isinstance(reading, str) or isinstance(again, str):
        assert reading == again
        return
    refused = [it.path for it in reading.refusals]
    assert sorted([*reading.places, *refused]) == sorted(files)
    assert again.places == reading.places
    assert {place.class_name for place in reading.places.values()} <= {
        part for path in files for part in path.split("/")[:-1]
    }
