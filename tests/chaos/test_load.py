"""T21 and T23: many clients at once, and the same small load for a long time."""

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import redis

from core.store.broker import QUEUE
from tests.app.processes import descendants
from tests.chaos.conftest import BEYOND, Tell, times
from tests.chaos.crowd import answers, crowd, start
from tests.e2e.conftest import Service, png, running, zip_of
from tests.waiting import wait_for
from topwork.errors import PredictorBusy

pytestmark = pytest.mark.chaos
CLIENTS, UPLOADS = 50, 5
PREDICT_SECONDS, POLL_SECONDS = 2.0, 0.1
MODELS = ("small", "other")
MEBIBYTES_AN_HOUR, MEBIBYTES_AT_MOST = 1.0, 30.0
IN_ONE_JOB = 60  # Files that a job under way may have; the last sample may fall into one.
MOST_EPOCHS = 1000  # More than a minute of them.
LEAST_A_SECOND = 10  # Predictions; two busy cores do ten times as many beside the training.
SECONDS = float(os.environ.get("CHAOS_LOAD_SECONDS", times(60)))
SOAK_MINUTES = float(os.environ.get("CHAOS_SOAK_MINUTES", "10"))
NAMES = ("nw", "ne", "sw", "se")


def squares(count: int, first: int = 0) -> bytes:
    """A zip of four easy classes."""
    return zip_of(
        {
            f"{name}/{number}.png": png(value, first + 1000 * value + number)
            for value, name in enumerate(NAMES)
            for number in range(count)
        }
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a small model."""
    with running(tmp_path_factory.mktemp("load") / "data") as started:
        job = started.finetune(
            squares(10),
            name="small",
            architecture="lenet",
            weights="none",
            hyperparameters={"epochs": 2},
        )
        assert started.ended(job)["state"] == "succeeded"
        yield started


@dataclass
class Tally:
    """What many clients met."""

    statuses: Counter[int] = field(default_factory=Counter)
    predict: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ingests: list[str] = field(default_factory=list)
    predicted: int = 0

    async def timed(
        self,
        client: httpx2.AsyncClient,
        into: list[float],
        method: str,
        url: str,
        **more: object,
    ) -> httpx2.Response:
        """Ask once; only a full predictor may refuse, and says when to come back."""
        began = time.monotonic()
        answer = await client.request(method, url, **more)  # type: ignore[arg-type]  # Passed on.
        into.append(time.monotonic() - began)
        self.statuses[answer.status_code] += 1
        self.predicted += into is self.predict and answer.is_success
        full = answer.status_code == PredictorBusy.status
        refused = full and answer.json()["code"] == PredictorBusy.code
        if not answer.is_success and not (refused and "retry-after" in answer.headers):
            self.wrong.append(f"{method} {url}: {answer.status_code} {answer.text[:200]}")
        return answer


async def load(url: str, tally: Tally) -> None:
    """Let CLIENTS predict and UPLOADS upload, for SECONDS."""
    until = time.monotonic() + SECONDS
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def predicts(number: int) -> None:
            files = {"file": ("a.png", png(number % 4, number))}
            while time.monotonic() < until:
                answer = await tally.timed(
                    client, tally.predict, "POST", "/predict", files=files, data={"model": "small"}
                )
                if answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
                    await asyncio.sleep(float(answer.headers["retry-after"]))

        async def uploads(number: int) -> None:
            await asyncio.sleep(SECONDS * number / UPLOADS)
            files = {"file": ("x.zip", squares(20, 10_000 * number))}
            answer = await tally.timed(client, [], "POST", "/datasets", files=files)
            tally.ingests.append(answer.json().get("id"))

        await asyncio.gather(
            *(predicts(number) for number in range(CLIENTS)),
            *(uploads(number) for number in range(UPLOADS)),
        )


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


def test_fifty_clients_five_uploads_and_a_training_job(
    service: Service, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    """Who polls is a process of its own: in the crowd's it would wait for fifty other clients."""
    job = service.finetune(
        squares(60, 500),
        name="beside",
        architecture="lenet",
        weights="none",
        hyperparameters={"epochs": MOST_EPOCHS},
        early_stopping=None,
    )
    wait_for(lambda: service.job(job)["phase"] == "training", 120)
    tally = Tally()
    watching = [(service.url, job, SECONDS)]
    with crowd("tests.chaos.poller", watching, {}) as pollers:
        start(pollers)
        asyncio.run(load(service.url, tally))
        ((polls, refused),) = answers(pollers)
    assert not tally.wrong, tally.wrong[:5]
    assert not refused, refused[:5]
    assert service.job(job)["state"] == "running", "the load was to be beside a training"
    service.http.post(f"/jobs/{job}/cancel").raise_for_status()
    assert service.ended(job)["state"] == "cancelled"
    assert {service.ended(ingest)["state"] for ingest in tally.ingests} == {"succeeded"}
    assert tally.predicted >= LEAST_A_SECOND * SECONDS
    tell(
        f"T21 {CLIENTS} clients, {SECONDS:g} s: {len(tally.predict)} predictions, answers "
        f"{dict(tally.statuses)}, p50 {statistics.median(tally.predict):.3f} s, "
        f"p99 {p99(tally.predict):.3f} s (goal 2), "
        f"{len(polls)} polls p99 {p99(polls):.3f} s (goal 0.1)"
    )
    record("T21 predictions", p99(tally.predict), PREDICT_SECONDS)
    record("T21 polls", p99(polls), POLL_SECONDS)


@dataclass
class Vitals:
    """What must not grow: KiB of memory, open files, threads, temporary files, broker keys."""

    memory: int
    files: int
    threads: int
    temporary: int
    keys: int

    @classmethod
    def of(cls, service: Service) -> "Vitals":
        """Add up the processes that live as long as the service; a job's come and go."""
        folders = [service.data_dir / name for name in ("tmp", "runs", "uploads")]
        temporary = [path for one in folders for path in one.rglob("*") if path.is_file()]
        with redis.from_url(broker_url(service)) as broker:
            keys = broker.dbsize() + broker.llen(QUEUE)
        found = cls(0, 0, 0, len(temporary), int(keys))
        for pid in descendants(service.process.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # It has just ended.
                found.add(pid)
        return found

    def add(self, pid: int) -> None:
        """Add one process, unless it belongs to a job."""
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        if any(
            part in command for part in (b"worker.process.guard", b"core.ingest", b"forkserver")
        ):
            return
        status = Path(f"/proc/{pid}/status").read_text()
        numbers = dict(line.split(":", 1) for line in status.splitlines())
        if "VmRSS" not in numbers:
            return  # It has just ended, and its parent does not know yet.
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        self.memory += int(numbers["VmRSS"].split()[0])
        self.threads += int(numbers["Threads"])
        self.files += files


def broker_url(service: Service) -> str:
    """Return the address of the service's own broker, as its worker was told it."""
    for pid in descendants(service.process.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                name, _, value = line.decode().partition("=")
                if name == "TOPWORK_BROKER_URL":
                    return value.replace("redis+socket://", "unix://").partition("?")[0]
    pytest.fail("no process of the service knows a broker")


@pytest.mark.nightly
@pytest.mark.timeout(60 * SOAK_MINUTES + 300)
def test_nothing_grows(service: Service, tell: Tell) -> None:
    """20 predictions a second and a job every 20 s; the first quarter is the warm-up."""
    image = ("a.png", png(1, 7))
    seconds, samples, wrong, jobs = 60 * SOAK_MINUTES, [], [], []
    other = squares(10, 5000)
    config = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 2}}
    assert service.ended(service.finetune(other, name=MODELS[1], **config))["state"] == "succeeded"
    began = time.monotonic()
    tick = 0
    while (now := time.monotonic() - began) < seconds:
        if tick % 400 == 0:
            jobs.append(
                service.finetune(squares(10, tick), name=f"soak{tick // 400 % 3}", **config)
            )
        if tick % 40 == 0 and now > seconds / 4:
            samples.append((now, Vitals.of(service)))
        answer = service.predict(image, model=MODELS[tick % 2])
        if answer.status_code != httpx2.codes.OK:
            wrong.append(answer.text)
        tick += 1
        time.sleep(max(0.0, began + tick / 20 - time.monotonic()))
    assert not wrong, wrong[:3]
    assert {service.ended(job)["state"] for job in jobs} == {"succeeded"}
    times = [at for at, _ in samples]
    slopes = {
        name: 3600 * statistics.linear_regression(times, [getattr(v, name) for _, v in samples])[0]
        for name in ("memory", "files", "threads", "temporary", "keys")
    }
    tell(
        f"T23 {SOAK_MINUTES:g} min: {tick} predictions, {len(jobs)} jobs, an hour's growth: memory "
        f"{slopes['memory'] / 1024:.2f} MiB (goal < 1), files {slopes['files']:.1f}, threads "
        f"{slopes['threads']:.1f}, temporary files {slopes['temporary']:.1f}, broker keys and "
        f"messages {slopes['keys']:.1f}"
    )
    hourly = slopes["memory"] / 1024
    if hourly > MEBIBYTES_AN_HOUR:
        tell(f"T23 memory: {hourly:.2f} MiB an hour, {BEYOND} of {MEBIBYTES_AN_HOUR:g}")
    first, last = samples[0][1], samples[-1][1]
    assert last.files <= first.files + 5
    assert last.threads <= first.threads + 5
    assert last.temporary <= first.temporary + IN_ONE_JOB
    assert last.keys <= first.keys + 5
    quarter = max(1, len(samples) // 4)
    began, ended = (
        statistics.median(vitals.memory for _, vitals in part) / 1024
        for part in (samples[:quarter], samples[-quarter:])
    )
    assert ended < began + MEBIBYTES_AT_MOST  # The slope of a few minutes is mostly noise.
