"""What `topwork models import` is given, of which it makes what a service takes."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from app.cli.bundles import bundled
from models.networks import zoo
from models.weights import bundle
from topwork.errors import InvalidField


def refused(source: Path, classes: str | None) -> InvalidField:
    with (
        pytest.raises(InvalidField) as error,
        bundled(source, "lenet" if classes else None, classes),
    ):
        pass
    assert error.value.hint
    return error.value


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file that nothing looks into before the classes are known."""
    (tmp_path / "best.pth").write_bytes(b"weights")
    return tmp_path / "best.pth"


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("ant,bee,ant", "'ant' is named twice"),
        ("ant,,bee", "empty"),
        ("ant,b\0ee", "cannot be shown"),
        (",".join(map(str, range(5001))), "5001 classes"),
    ],
)
def test_classes_that_no_model_can_have(checkpoint: Path, classes: str, words: str) -> None:
    assert words in str(refused(checkpoint, classes))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Käfer\nBiene\n".encode("latin-1"), "not UTF-8"),
        (b"ant\n\nbee\n", "empty"),
        (b"ant\nbee\nant\n", "'ant' is named twice"),
        (b"", "empty"),
    ],
)
def test_a_file_of_classes_that_is_none(checkpoint: Path, content: bytes, words: str) -> None:
    names = checkpoint.with_name("classes.txt")
    names.write_bytes(content)
    assert words in str(refused(checkpoint, str(names)))


def test_what_only_ends_as_an_archive_is_none(checkpoint: Path) -> None:
    """Its last record tells of a list of entries that is not there."""
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("data.pkl", b"0" * 99)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(b"\0" * 64 + data[-60:])
    assert zipfile.is_zipfile(checkpoint)
    assert "is no bundle" in str(refused(checkpoint, None))


def test_as_many_classes_as_a_model_may_have(tmp_path: Path) -> None:
    """Their names are longer than the system lets one argument be; some editors add a mark."""
    names = [f"Schmetterling der Art Nr. {number:04}" for number in range(5000)]
    file, listed = tmp_path / "best.pth", tmp_path / "classes.txt"
    listed.write_text("\n".join([*names, ""]), encoding="utf-8-sig")
    torch.save(zoo.build("lenet", len(names)).state_dict(), file)
    with bundled(file, "lenet", str(listed)) as made, zipfile.ZipFile(made) as archive:
        assert json.loads(archive.read(bundle.CARD))["classes"] == names
