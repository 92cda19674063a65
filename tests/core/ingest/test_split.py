"""The split: stratified, deterministic, steady; and which of several copies is used."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ingest.split import Copy, Ratios, assign, choose
from topwork.errors import InvalidField
from topwork.kinds import Split


def hashes(count: int, name: str = "cat") -> list[str]:
    return [hashlib.sha256(f"{name}{number}".encode()).hexdigest() for number in range(count)]


@pytest.mark.parametrize(
    ("images", "val", "test", "expected"),
    [
        (100, 0.2, 0.0, (80, 20, 0)),
        (100, 0.2, 0.1, (70, 20, 10)),
        (1, 0.2, 0.2, (1, 0, 0)),
        (2, 0.2, 0.2, (1, 1, 0)),
        (3, 0.1, 0.1, (1, 1, 1)),
        (3, 0.0, 0.0, (3, 0, 0)),
        (4, 0.9, 0.0, (1, 3, 0)),
    ],
)
def test_every_class_is_shared_out(
    images: int, val: float, test: float, expected: tuple[int, int, int]
) -> None:
    places = list(assign({"cat": hashes(images)}, Ratios(val, test)).values())
    assert tuple(places.count(split) for split in (Split.TRAIN, Split.VAL, Split.TEST)) == expected


def test_the_order_of_files_and_of_classes_changes_nothing() -> None:
    one, two = hashes(50), hashes(30, "dog")
    forward = assign({"cat": one, "dog": two}, Ratios())
    backward = assign({"dog": two[::-1], "cat": one[::-1]}, Ratios())
    assert forward == backward
    assert forward != assign({"cat": one, "dog": two}, Ratios(seed=43))


def test_more_files_move_few_old_ones() -> None:
    before = assign({"cat": hashes(1000)}, Ratios(0.2, 0.1))
    after = assign({"cat": hashes(1100)}, Ratios(0.2, 0.1))
    moved = sum(after[sha256] != split for sha256, split in before.items())
    assert moved < 40  # A fresh shuffle would move about 460.


@settings(deadline=None, database=None)
@given(st.integers(1, 40), st.floats(0, 0.6), st.floats(0, 0.3))
def test_something_is_always_left_to_train_on(images: int, val: float, test: float) -> None:
    places = assign({"cat": hashes(images)}, Ratios(val, test))
    assert len(places) == images
    assert "train" in places.values()
    assert ("val" in places.values()) == (val > 0 and images > 1)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (0, -1), (0.9, 0.1), (float("nan"), 0)])
def test_impossible_shares_are_refused(val: float, test: float) -> None:
    with pytest.raises(InvalidField):
        Ratios(val, test)


def test_of_equal_copies_the_first_path_is_used() -> None:
    chosen, reasons = choose([Copy("cat/2.jpg", "cat", None), Copy("cat/1.jpg", "cat", None)])
    assert chosen == Copy("cat/1.jpg", "cat", None)
    assert reasons == {"cat/2.jpg": ("duplicate", "cat/1.jpg")}


def test_across_splits_the_held_out_copy_is_used() -> None:
    copies = [
        Copy("1/cat.jpg", "cat", Split.TRAIN),
        Copy("2/cat.jpg", "cat", Split.VAL),
        Copy("3/cat.jpg", "cat", Split.TEST),
        Copy("4/cat.jpg", "cat", Split.TEST),
    ]
    chosen, reasons = choose(copies)
    assert chosen == copies[2]
    assert reasons == {
        "1/cat.jpg": ("split_leak", "3/cat.jpg"),
        "2/cat.jpg": ("split_leak", "3/cat.jpg"),
        "4/cat.jpg": ("duplicate", "3/cat.jpg"),
    }
    assert choose(copies[:2])[0] == copies[1]


def test_under_two_classes_no_copy_is_used() -> None:
    chosen, reasons = choose([Copy("cat/1.jpg", "cat", None), Copy("dog/1.jpg", "dog", None)])
    assert chosen is None
    assert reasons == {
        "cat/1.jpg": ("label_conflict", "dog/1.jpg"),
        "dog/1.jpg": ("label_conflict", "cat/1.jpg"),
    }
