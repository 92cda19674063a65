"""What no row refers to goes, and nothing goes that is about to be published."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete

from core.domain import datasets, leases
from core.ops import garbage
from core.store.resources import Resources
from core.store.tables import Chore, DatasetShard
from tests import content
from tests.claims import claim_best
from tests.invariants import broken, broken_after_tidying
from tests.waiting import wait_for
from topwork.kinds import JobKind
from worker.kinds import finetune, ingest

ROOT = Path(__file__).resolve().parents[3]
GARBAGE = (
    "models/job_gone/1/weights.safetensors",
    "datasets/ds_gone/1/1/manifest.jsonl",
    f"shards/{'0' * 64}.tar",
    "uploads/up_gone",
    "logs/job_gone.txt",
)


def keys(resources: Resources) -> set[str]:
    return set(content.stored(resources))


def test_orphans_go_and_everything_else_stays(anywhere: Resources) -> None:
    content.a_model(anywhere, content.a_dataset(anywhere, b"one", b"two"))
    lost, _ = content.training(anywhere, content.a_dataset(anywhere, b"three"))
    anywhere.storage.put_bytes(f"models/{lost.id}/{lost.fence}/part", b"being published")
    before = keys(anywhere)
    for key in GARBAGE:
        anywhere.storage.put_bytes(key, b"12345")
    assert garbage.collect(anywhere, 3600.0) == []
    removed = garbage.collect(anywhere, 0.0)
    assert {entry.key for entry in removed} == set(GARBAGE)
    assert keys(anywhere) == before
    with anywhere.database.read() as session:
        chore = session.get_one(Chore, garbage.CHORE)
    assert (chore.objects, chore.bytes) == (5, 25)


def test_nothing_goes_while_a_backup_is_made(anywhere: Resources) -> None:
    deleted = content.a_dataset(anywhere, b"one")
    anywhere.storage.put_bytes("logs/job_gone.txt", b"12345")
    before = keys(anywhere)
    with garbage.paused(anywhere.database) as prolong:
        with anywhere.database.write() as session:
            gone = datasets.delete(session, deleted)
        garbage.discard(anywhere, gone, [f"datasets/{deleted}"])
        assert garbage.collect(anywhere, 0.0) == []
        prolong()
        assert keys(anywhere) == before
    assert {entry.key for entry in garbage.collect(anywhere, 0.0)} == before


def test_a_backup_that_was_killed_keeps_garbage_for_a_while(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources.storage.put_bytes("logs/job_gone.txt", b"")
    monkeypatch.setattr(garbage, "PAUSE", -1.0)  # As if that time were over.
    with garbage.paused(resources.database):
        assert garbage.collect(resources, 0.0) != []


def test_a_long_backup_prolongs_the_pause(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources.storage.put_bytes("logs/job_gone.txt", b"")
    monkeypatch.setattr(garbage, "PROLONGED_EVERY", 0.0)
    monkeypatch.setattr(garbage, "PAUSE", -1.0)
    with garbage.paused(resources.database) as prolong:
        monkeypatch.setattr(garbage, "PAUSE", 900.0)
        prolong()
        assert garbage.collect(resources, 0.0) == []


def test_what_an_attempt_stored_before_it_lost_its_job_goes(resources: Resources) -> None:
    job, _ = content.training(resources, content.a_dataset(resources))
    resources.storage.put_bytes(f"models/{job.id}/1/part", b"")
    with resources.database.write() as session:
        leases.release(session, job.id, job.fence, "told to")
    assert [entry.key for entry in garbage.collect(resources, 0.0)] == [f"models/{job.id}/1/part"]


@pytest.mark.parametrize("kind", JobKind)
def test_a_running_job_keeps_its_own_attempt_and_no_earlier_one(
    resources: Resources, kind: JobKind
) -> None:
    if kind is JobKind.INGEST:
        job, _ = content.ingesting(resources, b"new")
        attempts = f"datasets/{job.dataset_id}/1"
    else:
        job, _ = content.training(resources, content.a_dataset(resources))
        attempts = f"models/{job.id}"
    for fence in (job.fence - 1, job.fence, job.fence + 1):
        resources.storage.put_bytes(f"{attempts}/{fence}/part", b"")
    removed = {entry.key for entry in garbage.collect(resources, 0.0)}
    assert removed == {f"{attempts}/{job.fence - 1}/part", f"{attempts}/{job.fence + 1}/part"}


def test_a_deleted_dataset_takes_only_its_own_shards_along(anywhere: Resources) -> None:
    content.a_dataset(anywhere, b"shared", b"mine")
    deleted = content.a_dataset(anywhere, b"shared", b"its own")
    before = keys(anywhere)
    with anywhere.database.write() as session:
        gone = datasets.delete(session, deleted)
    garbage.discard(anywhere, gone)
    assert len(before - keys(anywhere)) == 1
    anywhere.storage.delete_prefix(f"datasets/{deleted}")
    assert broken_after_tidying(anywhere) == []


def test_shards_of_older_versions_are_learnt_before_any_is_removed(resources: Resources) -> None:
    content.a_dataset(resources, b"one", b"two")
    before = keys(resources)
    with resources.database.write() as session:
        session.execute(delete(DatasetShard))
    assert garbage.collect(resources, 0.0) == []
    assert keys(resources) == before


def test_no_shard_goes_while_a_manifest_is_missing(resources: Resources) -> None:
    dataset = content.a_dataset(resources, b"one")
    with resources.database.write() as session:
        session.execute(delete(DatasetShard))
    resources.storage.delete_prefix(f"datasets/{dataset}")
    garbage.collect(resources, 0.0)
    assert len(resources.storage.list("shards")) == 1


def test_a_shard_that_is_collected_while_it_is_relied_on_is_stored_again(
    anywhere: Resources,
) -> None:
    """An ingestion finds its shard stored already, and it goes before the commit."""
    first = content.a_dataset(anywhere, b"same")
    with anywhere.database.write() as session:
        gone = datasets.delete(session, first)
    job, folder = content.ingesting(anywhere, b"same")
    looks: list[int] = []

    def check() -> None:
        if not looks and anywhere.storage.exists(f"datasets/{job.dataset_id}/1/1/manifest.json"):
            looks.append(1)  # It has looked for its shards, and will commit next.
            garbage.discard(anywhere, gone)
            assert anywhere.storage.list("shards") == []

    ingest.publish(anywhere, job, folder, check)
    assert looks
    assert len(anywhere.storage.list("shards")) == 1
    assert broken(anywhere) == []


COLLECT = """
import sys
from core.ops.garbage import collect
from core.store.resources import open_resources
from core.system.settings import Settings
with open_resources(Settings()) as resources:
    collect(resources, 0.0)
"""


def frozen(process: subprocess.Popen[bytes]) -> bool:
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def test_what_is_published_between_listing_and_deleting_stays(anywhere: Resources) -> None:
    """A collector of another process takes these objects for orphans when it is stopped."""
    dataset = content.a_dataset(anywhere, b"one")
    deleted = content.a_dataset(anywhere, b"two")
    with anywhere.database.write() as session:
        datasets.delete(session, deleted)
    lost, folder = content.training(anywhere, dataset)
    with anywhere.database.write() as session:
        leases.release(session, lost.id, lost.fence, "told to")
    for path in (folder / "result").iterdir():  # As the next claim will have stored them.
        anywhere.storage.put_file(f"models/{lost.id}/2/{path.name}", path)
    orphan = "uploads/up_gone"
    anywhere.storage.put_bytes(orphan, b"")
    named = anywhere.settings
    environment = os.environ | {
        "TOPWORK_DATA_DIR": str(named.data_dir),
        "TOPWORK_DATABASE_URL": named.database_url,
        "TOPWORK_STORAGE_URL": named.storage_url,
        "TOPWORK_FAILPOINTS": "garbage.before_delete=stop",
    }
    command = [sys.executable, "-c", COLLECT]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as collector:
        try:
            wait_for(lambda: frozen(collector))
            with anywhere.database.write() as session:
                again = claim_best(session, "box:1:aa", 60.0)
            assert again is not None
            finetune.publish(anywhere, again, folder, lambda: None)
            content.a_dataset(anywhere, b"two")
        finally:
            collector.send_signal(signal.SIGCONT)
        assert collector.wait(30) == 0
    assert not anywhere.storage.exists(orphan)
    assert broken(anywhere) == []


def test_one_process_at_a_time_collects_and_not_too_often(resources: Resources) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(garbage.is_due, resources.database, 3600.0) for _ in range(8)]
    assert sorted(one.result() for one in asked) == [False] * 7 + [True]
    assert garbage.is_due(resources.database, 1e-9)
