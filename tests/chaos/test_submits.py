"""T8 and the api's part of T5: submits that an api's death or a broker's absence interrupts."""

import os
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.api.uploads import multipart_archive, partial_file, resumable
from core.domain import jobs
from core.store.migrate import upgrade
from core.store.resources import Resources
from core.store.tables import Job
from core.system.settings import Settings
from tests.app.apiclient import config, publish_dataset, zipped
from tests.chaos.api_process import api
from tests.chaos.broker import Broker
from tests.chaos.conftest import Tell, times
from tests.invariants import broken, broken_after_tidying
from tests.waiting import wait_for
from tests.worker.conftest import Bench, open_bench

pytestmark = pytest.mark.chaos
SUBMITS, SUBMIT_SECONDS = 20, 1.5
WORKER = "tests.chaos.submit_worker"
LENET = {"architecture": "lenet", "weights": "none"}
ARCHIVE = zipped()


@dataclass(frozen=True)
class Submit:
    """A request that makes jobs of these kinds, and the same one with another body."""

    path: str
    kinds: list[str]
    request: dict[str, Any] = field(default_factory=dict)
    other: dict[str, Any] | None = None

    def send(self, client: httpx2.Client, key: dict[str, str]) -> httpx2.Response:
        return client.post(self.path, headers=key, **self.request)


def submits(resources: Resources, folder: Path) -> list[Submit]:
    """Return every way to ask for work, with what each needs to be there already."""
    dataset = publish_dataset(resources, folder / secrets.token_hex(4))
    named = {"dataset": dataset.id, **LENET}
    with resources.database.write() as session:
        cancelled = jobs.submit(
            session, kind="finetune", config={"name": "again"}, dataset_id=dataset.id
        )
        jobs.cancel(session, cancelled.id)
    archive = {"file": ("pets.zip", ARCHIVE)}
    larger = {"file": ("pets.zip", ARCHIVE + b"\0")}
    used = {"upload": uploaded(resources)}
    renamed = used | {"name": "other"}
    return [
        Submit("/finetune", ["finetune"], {"json": named}, {"json": named | {"seed": 7}}),
        Submit("/datasets", ["ingest"], {"files": archive}, {"files": larger}),
        Submit("/datasets", ["ingest"], {"json": used}, {"json": renamed}),
        Submit(
            "/finetune",
            ["finetune", "ingest"],
            {"files": archive, "data": config(weights="none")},
            {"files": larger, "data": config(weights="none")},
        ),
        Submit(f"/jobs/{cancelled.id}/retry", []),
    ]


def uploaded(resources: Resources) -> str:
    """Return the id of an upload that has arrived in pieces, all of them."""
    size, settings = len(ARCHIVE), resources.settings
    with resources.database.write() as session:
        row = resumable.begin(session, settings, length=size, filename=None, metadata="")
    partial_file.path_of(settings, row.id).write_bytes(ARCHIVE)
    return row.id


def ordered(resources: Resources) -> dict[str, str]:
    """Return the kind of every job by its id."""
    with resources.database.read() as session:
        return {job.id: job.kind for job in session.scalars(select(Job))}


def end_once(bench: Bench, ids: Iterable[str]) -> None:
    """Wait until jobs have succeeded, each by one attempt and with one outcome."""
    for job_id in ids:
        job = bench.reaches(job_id, "succeeded", "failed", timeout=60)
        assert (job.state, job.fence) == ("succeeded", 1), job.error
        assert bench.states(job_id).count("succeeded") == 1
        assert len(bench.published(job_id)) == (job.kind == "finetune")


def nothing_left(resources: Resources) -> None:
    """Check that nothing stays of requests that were killed, once a sweep finds it old."""
    data = resources.settings.data_dir
    for folder in ("tmp", "uploads"):
        for path in (data / folder).glob("*"):
            os.utime(path, (0, 0))
    multipart_archive.remove_abandoned(resources.settings)
    resumable.tidy(resources)
    assert [path for name in ("tmp", "uploads") for path in (data / name).glob("*")] == []
    # The worker tidies its run folders up behind the job's end.
    wait_for(lambda: not list((data / "runs").glob("*")))
    assert not broken_after_tidying(resources)


def killed_at(point: str, submit: Submit, settings: Settings, key: dict[str, str]) -> None:
    """Submit to an api that dies at a point, without an answer."""
    with api(settings, f"{point}=kill") as (client, process):
        with pytest.raises(httpx2.TransportError):
            submit.send(client, key)
        assert process.wait(10) == -9


def answers_as_ever(
    client: httpx2.Client, submit: Submit, key: dict[str, str], made: set[str]
) -> None:
    """Submit twice more with the key of the answer that was lost, and once something else."""
    first, again = submit.send(client, key), submit.send(client, key)
    assert (first.status_code, again.status_code) == (202, 202), (submit, first.text)
    assert first.headers["Idempotent-Replayed"] == "true"
    assert first.json() == again.json()
    assert first.json()["id"] in (made or {submit.path.split("/")[2]})
    if submit.other is not None:
        other = client.post(submit.path, headers=key, **submit.other)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("point", ["db.before_ring", "api.before_answer"])
def test_submits_whose_answers_were_lost_are_one_job_each(
    point: str,
    database: str,
    request: pytest.FixtureRequest,
    make_bench: Callable[..., AbstractContextManager[Bench]],
    tmp_path: Path,
    tell: Tell,
) -> None:
    elsewhere = {}
    if database == "postgres":
        elsewhere["database_url"] = request.getfixturevalue("postgres")
        upgrade(elsewhere["database_url"])
    with make_bench(**elsewhere) as bench:
        resources = bench.resources
        kills = 0
        lost: list[tuple[Submit, dict[str, str], set[str]]] = []
        for submit in [one for _ in range(times(1)) for one in submits(resources, tmp_path)]:
            before, key = ordered(resources), {"Idempotency-Key": secrets.token_hex(8)}
            killed_at(point, submit, resources.settings, key)
            kills += 1
            made = {job: kind for job, kind in ordered(resources).items() if job not in before}
            assert sorted(made.values()) == submit.kinds, submit
            lost.append((submit, key, set(made)))
        before = ordered(resources)
        with api(resources.settings) as (client, _):
            for submit, key, made_by_it in lost:
                answers_as_ever(client, submit, key, made_by_it)
        assert ordered(resources) == before
        bench.worker(slots=2, module=WORKER)
        end_once(bench, before)
        nothing_left(resources)
    tell(
        f"T8 {database}, {kills} submits killed at {point}: the same bodies twice,"
        f" {len(before)} jobs, each ended once"
    )


def test_submits_do_not_wait_for_a_broker_that_is_away(
    settings: Settings,
    gate: Path,
    tmp_path: Path,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    broker = Broker(tmp_path)
    with open_bench(settings.data_dir, gate, broker.url) as bench:
        dataset = publish_dataset(bench.resources, tmp_path / "pets")
        body, slowest = {"dataset": dataset.id, **LENET}, 0.0
        accepted = []
        with api(bench.resources.settings) as (client, _):
            for _ in range(SUBMITS):
                began = time.monotonic()
                answer = client.post("/finetune", json=body)
                slowest = max(slowest, time.monotonic() - began)
                assert answer.status_code == 202
                accepted.append(answer.json()["id"])
            assert sorted(ordered(bench.resources)) == sorted(accepted)
            assert not broken(bench.resources)
            began = time.monotonic()
            broker.start()
            bench.worker(slots=2, module=WORKER)
            end_once(bench, accepted)
            seconds = time.monotonic() - began
        nothing_left(bench.resources)
    broker.close()
    tell(
        f"T5 {SUBMITS} submits over HTTP without a broker: slowest {slowest:.2f} s; with it and a"
        f" worker all ended once after {seconds:.1f} s"
    )
    record("T5 slowest submit over HTTP", slowest, SUBMIT_SECONDS)
