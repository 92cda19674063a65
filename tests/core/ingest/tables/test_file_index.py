"""Which image of an upload a text in a table means."""

import time

import pytest

from core.ingest.tables.file_index import FileIndex

PATHS = ["a/cat/1.png", "b/cat/1.png", "b/dog/1.png", "b/dog/2.png", "owl/3.png", "3/x.jpg"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b/cat/1.png", "b/cat/1.png"),
        ("/home/me/b/cat/1.png", "b/cat/1.png"),
        ("cat/1.png", None),
        ("c/cat/1.png", None),
        ("dog/1.png", "b/dog/1.png"),
        ("DOG\\1", "b/dog/1.png"),
        ("hen/dog/2", "b/dog/2.png"),
        ("2.png", "b/dog/2.png"),
        ("elsewhere/2.png", "b/dog/2.png"),
        ("cat/2.png", None),
        ("0a1b2c3d-2.png", "b/dog/2.png"),
        ("dog/0a1b2c3d-1.png", "b/dog/1.png"),
        ("1.png", None),
        ("4.png", None),
        ("", None),
    ],
)
def test_the_most_parts_that_agree_decide(text: str, found: str | None) -> None:
    assert FileIndex(PATHS).find(text) == found


def test_many_files_of_one_name_are_found_as_fast_as_others() -> None:
    paths = [f"data/{number:05}/image.png" for number in range(20_000)]
    index = FileIndex(paths)
    started = time.process_time()
    for path in paths:
        assert index.find(f"/home/me/{path.removeprefix('data/')}") == path
    assert index.find("image.png") is None
    assert index.find("x/" * 60_000 + "00007/image.png") == "data/00007/image.png"
    assert time.process_time() - started < 5  # One after the other: ten minutes.
