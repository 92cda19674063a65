"""T29: a copy of a live service, restored elsewhere, has the same jobs, models and hashes."""

import json
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from app.cli import program
from core.domain import datasets, jobs
from core.ops import backup, garbage
from core.ops.backup import save
from core.ops.restore import restore
from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.store.tables import Job, ModelVersion
from core.system.settings import Settings
from tests import content
from tests.claims import claim_best
from tests.invariants import broken, broken_after_tidying
from topwork.errors import IntegrityError, StateConflict

pytestmark = pytest.mark.plan


@pytest.fixture
def target(tmp_path: Path) -> Settings:
    """A service that does not exist yet."""
    return Settings(data_dir=tmp_path / "elsewhere", offline=True)


def fill(resources: Resources) -> None:
    """Publish two datasets and a model; leave jobs queued, paused, running and cancelling."""
    dataset = content.a_dataset(resources, b"one", b"two")
    content.a_dataset(resources, b"two", b"three")
    content.a_model(resources, dataset)
    content.training(resources, dataset, "running")
    cancelling, _ = content.training(resources, dataset, "cancelling")
    with resources.database.write() as session:
        jobs.cancel(session, cancelling.id)
        jobs.submit(session, kind="finetune", config={"name": "queued"})
        paused = jobs.submit(session, kind="finetune", config={"name": "paused"})
        jobs.pause(session, paused.id)


def rows(resources: Resources) -> dict[str, tuple[str, str, int]]:
    with resources.database.read() as session:
        found = {job.id: (job.kind, job.state, job.fence) for job in session.scalars(select(Job))}
        for version in session.scalars(select(ModelVersion)):
            found[version.id] = (f"{version.name}@{version.number}", version.digest, 0)
    return found


def test_a_restored_service_has_everything(
    anywhere: Resources, target: Settings, tmp_path: Path
) -> None:
    fill(anywhere)
    before, objects = rows(anywhere), content.stored(anywhere)
    anywhere.storage.put_bytes("models/job_gone/1/x", b"no row refers to it")
    save(anywhere, tmp_path / "copy")
    restore(tmp_path / "copy", target)
    with open_resources(target) as restored:
        assert content.stored(restored) == objects
        after = rows(restored)
        running, cancelling = sorted(id_ for id_, row in before.items() if row[1] == "running")
        ended = {running: ("finetune", "queued", 1), cancelling: ("finetune", "cancelled", 1)}
        assert after == before | ended
        assert broken(restored) == broken_after_tidying(restored) == []
        with restored.database.write() as session:
            again = claim_best(session, "box:2:bb", 60.0)
        assert again is not None
        assert (again.id, again.fence) == (running, 2)
    # What becomes of a service's objects or of a backup's leaves the others as they are.
    for folder in (anywhere.storage.root, tmp_path / "copy" / "objects", target.data_dir):
        assert folder is None or all(
            path.stat().st_nlink == 1 for path in folder.rglob("*") if path.is_file()
        )


def test_a_backup_can_be_read_by_its_user_only(resources: Resources, tmp_path: Path) -> None:
    fill(resources)
    before = os.umask(0)
    try:
        save(resources, tmp_path / "new" / "copy")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "copy").stat().st_mode) == 0o700


def test_a_backup_goes_into_postgres_and_s3_as_well(
    resources: Resources, postgres: str, s3: str, tmp_path: Path
) -> None:
    fill(resources)
    objects = content.stored(resources)
    save(resources, tmp_path / "copy")
    remote = Settings(data_dir=tmp_path / "data2", database_url=postgres, storage_url=s3)
    restore(tmp_path / "copy", remote)
    with open_resources(remote) as restored:
        assert content.stored(restored) == objects
        assert broken_after_tidying(restored) == []


def test_writers_go_on_meanwhile_and_the_cut_is_clean(
    resources: Resources, target: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Datasets come and go without end while three backups are made, each at its first try."""
    monkeypatch.setattr(backup, "TRIES", 1)
    fill(resources)
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            dataset = content.a_dataset(resources, f"content {len(written)}".encode())
            with resources.database.write() as session:
                keys = datasets.delete(session, dataset)
            garbage.discard(resources, keys, [f"datasets/{dataset}"])
            written.append(dataset)

    with resources.database.write() as session:  # `content` claims what is queued.
        for job in session.scalars(select(Job).where(Job.state == "queued")):
            jobs.pause(session, job.id)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            before, count = rows(resources), len(written)
            save(resources, tmp_path / str(number))
            assert len(written) > count
    finally:
        stop.set()
        writer.join()
    restore(tmp_path / "2", target)
    ended = {id_: row for id_, row in before.items() if row[1] not in ("running", "queued")}
    assert len(ended) > 5  # Those of `fill`; the writer's come on top.
    with open_resources(target) as restored:
        after = rows(restored)
        assert set(before) <= set(after)
        assert ended.items() <= after.items()
        assert broken_after_tidying(restored) == []


def test_a_place_that_is_not_empty_is_refused(
    resources: Resources, settings: Settings, tmp_path: Path
) -> None:
    fill(resources)
    save(resources, tmp_path / "copy")
    before = content.stored(resources)
    with pytest.raises(StateConflict, match="there already"):
        save(resources, tmp_path / "copy")
    with pytest.raises(StateConflict, match="not empty"):
        restore(tmp_path / "copy", settings)
    assert content.stored(resources) == before


@pytest.mark.parametrize("damage", ["object", "facts", "later"])
def test_a_damaged_backup_leaves_the_target_empty(
    resources: Resources, target: Settings, tmp_path: Path, damage: str
) -> None:
    fill(resources)
    copy = tmp_path / "copy"
    facts = save(resources, copy)
    if damage == "object":
        path = copy / backup.OBJECTS / next(iter(facts["objects"]))
        path.unlink()
        path.write_bytes(b"other")
    elif damage == "facts":
        (copy / backup.FACTS).unlink()
    else:
        (copy / backup.FACTS).write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises((IntegrityError, StateConflict)):
        restore(copy, target)
    upgrade(target.database_url)
    with open_resources(target) as restored:
        assert rows(restored) == {}
        assert content.stored(restored) == {}


def test_a_damaged_service_is_not_copied_without_a_word(
    resources: Resources, tmp_path: Path
) -> None:
    fill(resources)
    resources.storage.delete(resources.storage.list("shards")[0])
    with pytest.raises(IntegrityError, match="is missing"):
        save(resources, tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []


def test_the_commands_copy_and_restore(resources: Resources, tmp_path: Path) -> None:
    fill(resources)
    run = CliRunner()
    data = str(resources.settings.data_dir)
    made = run.invoke(program, ["backup", str(tmp_path / "copy"), "--data-dir", data, "--json"])
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["rows"]["model_version"] == 1
    shutil.rmtree(resources.settings.data_dir / "objects")
    new = ["--data-dir", str(tmp_path / "new")]
    assert run.invoke(program, ["restore", str(tmp_path / "copy"), *new]).exit_code == 0
    again = run.invoke(program, ["restore", str(tmp_path / "copy"), *new])
    assert again.exit_code == 1
    assert "not empty" in again.stderr
