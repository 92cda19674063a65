"""What is told before an ingestion is what the ingestion then says, as far as names tell it."""

from pathlib import Path

import pytest

from core.ingest.archive import Limits
from core.ingest.dry_run import summarise
from core.ingest.split import Ratios
from tests.archives import folder, zip_of
from tests.core.ingested import Ingest
from topwork.errors import ArchiveUnsafe, DatasetInvalid, TooFewClasses, TopworkError
from topwork.kinds import GroupBy

KEPT = ("classes", "counts", "drawn", "skipped", "rejected", "findings")
ARCHIVES = {
    "plain": folder("cat", "dog", count=7),
    "own splits": folder("train/cat", "train/dog", "val/cat", "val/dog"),
    "a class without training images": folder("train/a", "train/b", "val/a", "val/c", first=1),
    "a class without validation images": folder("train/a", "train/b", "val/a"),
    "a split to draw": folder("train/a", "train/b", "test/a", "test/b", count=5),
    "deeper folders": folder("cat", "cat/young", "dog", count=2),
    "what is no image": folder("cat", "dog") | {"cat/notes.txt": b"hello", "readme": b"hello"},
    "a single image": folder("cat", "dog", count=1),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("test", [0.0, 0.2])
def test_a_dry_run_tells_what_the_ingestion_says(
    run: Ingest, tmp_path: Path, name: str, test: float
) -> None:
    archive = tmp_path / "told.zip"
    archive.write_bytes(zip_of(ARCHIVES[name]))
    told = summarise(archive, Limits(), Ratios(test=test))
    done = run(archive.read_bytes(), split={"val": 0.2, "test": test}).dataset
    # What is no image is found out by opening it: not before.
    if name != "what is no image":
        assert told == {key: done[key] for key in KEPT}
    assert told["classes"] == done["classes"]


def test_a_share_that_folders_leave_empty_is_in_the_plan(run: Ingest, tmp_path: Path) -> None:
    archive = tmp_path / "told.zip"
    archive.write_bytes(zip_of(folder("cat", "dog", count=4)))
    told = summarise(archive, Limits(), Ratios(group_by=GroupBy.FOLDER))["findings"]
    assert [(it["code"], it["examples"]) for it in told] == [("split_share_missed", ["val"])]
    done = run(archive.read_bytes(), split={"group_by": "folder"}).dataset
    assert [it for it in done["findings"] if it["code"] == "split_share_missed"] == told


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (folder("cat"), TooFewClasses),
        (folder("train/cat", "train/dog/..", "val/dog"), TooFewClasses),
        ({"../cat/1.png": b"", "../dog/1.png": b""}, ArchiveUnsafe),
        ({"readme.txt": b"hello"}, DatasetInvalid),
    ],
)
def test_an_error_is_the_ingestions_with_its_hint(
    run: Ingest, tmp_path: Path, files: dict[str, bytes], error: type[TopworkError]
) -> None:
    archive = tmp_path / "told.zip"
    archive.write_bytes(zip_of(files))
    with pytest.raises(error) as told:
        summarise(archive, Limits(), Ratios())
    said = run(archive.read_bytes()).error
    assert said == told.value.to_dict()
