"""Serve one model by each engine: python bench/serving.py [ARCHIVE.zip] [--rounds N] [--seconds S].

MobileNet-v2 with two classes, published as the trainer does, is served once by its graph in ONNX
Runtime and once, by the same card without its choice of an engine, by the network in torch. Each
engine has a predictor of its own, which is asked over its socket by 1, 8 and 64 clients with one
JPEG each. Sides and numbers of clients take turns in random order. A start is measured anew in each
round, until the first answer; memory is the proportional set size after the last one.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "hymenoptera.zip"
ARCHITECTURE = "mobilenet_v2"
CLIENTS = (1, 8, 64)
LEAST_ANSWERS = 20  # Of a crowd, however slow the machine is.
SEED = 7
SIDES = ("onnxruntime", "torch")


@dataclass
class Load:
    """What clients saw: seconds of each request, and images a second."""

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def row(self) -> str:
        """Return the median rate and its spread, and two quantiles of the time of a request."""
        cuts = statistics.quantiles(self.seconds, n=100)
        middle, least, most = statistics.median(self.rates), min(self.rates), max(self.rates)
        times = f"p50 {1000 * cuts[49]:7.1f} ms   p99 {1000 * cuts[98]:7.1f} ms"
        return f"{middle:7.1f} img/s ({least:.1f} to {most:.1f})   {times}"


def publish(folder: Path) -> None:
    """Write the model once with its graph, and once more without the choice of an engine."""
    from tests.models.publishing import network_of, publish  # noqa: PLC0415 - loads torch.

    for side in SIDES:
        place = folder / side / "objects" / "models" / "bench" / "1"
        place.mkdir(parents=True)
        if side == SIDES[0]:
            publish(place, network_of(ARCHITECTURE, ["ants", "bees"]))
            continue
        shutil.copytree(
            folder / SIDES[0] / "objects", folder / side / "objects", dirs_exist_ok=True
        )
        card = json.loads((place / "card.json").read_text())
        assert card.pop("engine")["name"] == SIDES[0]
        (place / "card.json").write_text(json.dumps(card))


Model = dict[str, Any]


def named(folder: Path) -> Model:
    """Return how a request names the model of a folder; reads all of it."""
    from models.inference.card_file import manifest  # noqa: PLC0415 - the path is set in main.

    prefix = "models/bench/1"
    files = manifest(folder / "objects" / prefix)
    digest = files["weights.safetensors"]["sha256"]
    return {"kind": "artefact", "prefix": prefix, "digest": digest, "files": files}


def order(model: Model, size: int, **more: Any) -> dict[str, str]:
    """Return the headers of a request about one image of so many bytes."""
    from app.predictor_protocol import HEADER, Order  # noqa: PLC0415 - the path is set in main.

    fields = {"model": model, "sizes": [size], "filenames": [""], "owner": "bench", **more}
    return {HEADER: Order.model_validate(fields).header()}


@contextmanager
def predictor(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a predictor over the storage in a folder, without a model that is loaded in advance."""
    names = {
        "TOPWORK_DATA_DIR": str(folder),
        "TOPWORK_OFFLINE": "true",
        "TOPWORK_WEIGHTS_DIR": str(folder / "none"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, "-P", "-m", "app.predictor"),
            stdout=log,
            stderr=log,
            env={**os.environ, **names, "PYTHONPATH": str(ROOT)},
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def client(folder: Path) -> httpx2.AsyncClient:
    """Return a client of the predictor of a folder."""
    path = str(folder / "run" / "predictor.sock")
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=path), base_url="http://predictor", timeout=120
    )


async def first_answer(folder: Path, model: Model, image: bytes) -> None:
    """Ask until there is an answer."""
    asked = order(model, len(image))
    async with client(folder) as http:
        while True:
            try:
                answer = await http.post("/predict", headers=asked, content=image)
            except httpx2.TransportError:
                await asyncio.sleep(0.005)
                continue
            assert answer.is_success, answer.text
            return


async def crowd(
    folder: Path, model: Model, images: list[bytes], clients: int, seconds: float
) -> Load:
    """Let so many clients ask one after the other for a while."""
    orders = [order(model, len(image)) for image in images]
    load, until = Load(), time.perf_counter() + seconds

    async def one(http: httpx2.AsyncClient, number: int) -> None:
        while (began := time.perf_counter()) < until or len(load.seconds) < LEAST_ANSWERS:
            number = (number + 1) % len(images)
            answer = await http.post("/predict", headers=orders[number], content=images[number])
            assert answer.is_success, answer.text
            load.seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with client(folder) as http:
        await asyncio.gather(*(one(http, number) for number in range(clients)))
    load.rates.append(len(load.seconds) / (time.perf_counter() - began))
    return load


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    """Return the proportional set size of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024


def main() -> None:
    """Take turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    if not asked.archive.is_file():
        sys.exit(f"{asked.archive} is not there: name an archive with JPEG files")
    with zipfile.ZipFile(asked.archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        images = [archive.read(name) for name in names[:64]]
    loads = {(side, clients): Load() for side in SIDES for clients in CLIENTS}
    starts: dict[str, list[tuple[float, float, float, float]]] = {side: [] for side in SIDES}
    orders = random.Random(SEED)  # noqa: S311 - not a secret.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder)
        models = {side: named(folder / side) for side in SIDES}
        for _ in range(asked.rounds):
            for side in orders.sample(SIDES, len(SIDES)):
                place, began = folder / side, time.perf_counter()
                with predictor(place) as process:
                    asyncio.run(first_answer(place, models[side], images[0]))
                    waited, worked = time.perf_counter() - began, cpu_seconds(process.pid)
                    small = megabytes(process.pid)
                    for clients in orders.sample(CLIENTS, len(CLIENTS)):
                        found = asyncio.run(
                            crowd(place, models[side], images, clients, asked.seconds)
                        )
                        loads[side, clients].seconds += found.seconds
                        loads[side, clients].rates += found.rates
                    starts[side].append((waited, worked, small, megabytes(process.pid)))
    print(f"{ARCHITECTURE}, n = {asked.rounds} rounds in random order, medians (least to most)")
    for side in SIDES:
        waited, worked, small, large = map(statistics.median, zip(*starts[side], strict=True))
        print(
            f"{side:12} first answer {waited:.2f} s, {worked:.2f} s of CPU; "
            f"{small:.0f} MB then, {large:.0f} MB after the crowds"
        )
        for clients in CLIENTS:
            print(f"{side:12} {clients:3} clients {loads[side, clients].row()}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
