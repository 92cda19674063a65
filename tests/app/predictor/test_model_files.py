"""Copies of remote models are whole and as recorded, or are not there."""

import os
import time
from pathlib import Path

import pytest

from app.predictor.model_files import ModelFiles
from app.predictor_protocol import ArtefactModel
from core.store.object_store import Storage
from models.inference import artefact
from tests.app.conftest import MakeModel
from topwork.errors import IntegrityError

Stored = tuple[Storage, MakeModel]


def replace(storage: Storage, model: ArtefactModel, name: str, data: bytes) -> None:
    storage.delete(f"{model.prefix}/{name}")
    storage.put_bytes(f"{model.prefix}/{name}", data)


def test_a_model_is_fetched_once_under_the_name_of_its_card(
    tmp_path: Path, stored_far: Stored
) -> None:
    storage, make = stored_far
    model = ArtefactModel(**make())
    files = ModelFiles(storage, tmp_path / "cache", 2**30)
    folder = files.bring(model)
    assert folder.name == model.files[artefact.CARD].sha256
    assert sorted(path.name for path in folder.iterdir()) == sorted(model.files)
    storage.delete_prefix(model.prefix)
    assert files.bring(model) == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    files.forget(model)
    with pytest.raises(IntegrityError, match="gone from storage"):
        files.bring(model)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_graph_comes_with_its_model(tmp_path: Path, stored_far: Stored) -> None:
    from tests.app.trained import store_served  # noqa: PLC0415 - loads torch, which few tests need.

    storage, _ = stored_far
    model = ArtefactModel(**store_served(storage, tmp_path / "made"))
    folder = ModelFiles(storage, tmp_path / "cache", 2**30).bring(model)
    assert (folder / artefact.GRAPH).read_bytes() == storage.get_bytes(
        f"{model.prefix}/{artefact.GRAPH}"
    )
    replace(storage, model, artefact.GRAPH, b"another graph")
    with pytest.raises(IntegrityError, match="recorded hash"):
        ModelFiles(storage, tmp_path / "again", 2**30).bring(model)


@pytest.mark.parametrize("name", [artefact.WEIGHTS, artefact.CARD])
def test_a_changed_object_is_refused_and_leaves_nothing(
    tmp_path: Path, stored_far: Stored, name: str
) -> None:
    storage, make = stored_far
    model = ArtefactModel(**make())
    replace(storage, model, name, storage.get_bytes(f"{model.prefix}/{name}") + b" ")
    files = ModelFiles(storage, tmp_path / "cache", 2**30)
    with pytest.raises(IntegrityError, match="recorded hash"):
        files.bring(model)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_model_in_a_folder_here_is_read_where_it_lies(
    tmp_path: Path, stored: tuple[Storage, MakeModel]
) -> None:
    storage, make = stored
    model = ArtefactModel(**make())
    files = ModelFiles(storage, tmp_path / "cache", 2**30)
    assert files.bring(model) == storage.local_path(model.prefix)
    files.forget(model)
    assert storage.exists(f"{model.prefix}/{artefact.WEIGHTS}")
    assert not (tmp_path / "cache").exists()


def test_the_same_weights_under_another_card_are_another_model(
    tmp_path: Path, stored_far: Stored
) -> None:
    storage, make = stored_far
    one = ArtefactModel(**make())
    card = storage.get_bytes(f"{one.prefix}/{artefact.CARD}").replace(b"cicada", b"cricket")
    (tmp_path / artefact.CARD).write_bytes(card)
    facts = artefact.manifest(tmp_path, artefact.CARD)
    files = {name: file.plain() for name, file in one.files.items()}
    two = ArtefactModel(prefix=one.prefix, digest=one.digest, files={**files, **facts})
    cache = ModelFiles(storage, tmp_path / "cache", 2**30)
    assert cache.name_of(one) != cache.name_of(two)


def test_a_hash_may_name_its_kind_and_a_manifest_must_be_complete(
    tmp_path: Path, stored_far: Stored
) -> None:
    storage, make = stored_far
    order = make()
    cache = ModelFiles(storage, tmp_path / "cache", 2**30)
    plain = cache.name_of(ArtefactModel(**order))
    for facts in order["files"].values():
        facts["sha256"] = "sha256:" + facts["sha256"]
    named = ArtefactModel(**order)
    assert cache.name_of(named) == plain
    cache.bring(named)
    del order["files"][artefact.CARD]
    with pytest.raises(IntegrityError, match=r"card\.json"):
        cache.name_of(ArtefactModel(**order))


def test_copies_make_room_for_each_other(tmp_path: Path, stored_far: Stored) -> None:
    storage, make = stored_far
    one, two, three = (ArtefactModel(**make(seed)) for seed in (1, 2, 3))
    size = sum(file.size for file in one.files.values())
    cache = tmp_path / "cache"
    files = ModelFiles(storage, cache, 2 * size + 1000)
    for age, model in ((300, one), (200, two)):
        folder = files.bring(model)
        os.utime(folder, (time.time() - age,) * 2)
    files.bring(one)
    for age, name in ((9000, ".draft-dead"), (5, ".draft-busy")):
        (cache / name).mkdir()
        os.utime(cache / name, (time.time() - age,) * 2)
    files.bring(three)
    kept = {path.name for path in cache.iterdir()}
    assert kept == {files.name_of(one), files.name_of(three), ".draft-busy"}
    tight = ModelFiles(storage, cache, 1)
    assert tight.bring(two).is_dir()
    assert {path.name for path in cache.iterdir()} == {files.name_of(two), ".draft-busy"}
