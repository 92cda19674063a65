"""`topwork demo`: the main job, once, on real images, against a whole service of its own.

Nothing is taken from inside the service: images go in by `POST /finetune`, answers come out by
`POST /predict`, and both must agree with the evaluation that the job published.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Group

from app.demo.samples import digits, images_in
from app.terminal.output import Terminal, table
from app.terminal.watch import watch_job
from core.system.child import python, tethered
from core.system.optional_packages import require_torch
from core.system.settings import Settings
from models.planning import catalogue
from models.weights import local_weights
from models.weights.download import download
from topwork import Topwork
from topwork.client.synchronous.jobs import Job
from topwork.errors import TopworkError, WeightsUnavailable
from topwork.kinds import JobState, Split
from topwork.types.evaluation import Evaluation

PRETRAINED, SCRATCH = "mobilenet_v2", "lenet"
SCRATCH_EPOCHS = 20
MOST_GIGAOPS = 2.0  # Of one image; a larger network takes more than the demo's three minutes.
LEAST_ACCURACY = 0.95  # On the digits.
START_SECONDS, STOP_SECONDS = 120.0, 15.0
BATCH = 16
SHOWN = 5
OWN_PLACES = (
    "TOPWORK_DATABASE_URL",
    "TOPWORK_STORAGE_URL",
    "TOPWORK_BROKER_URL",
    "TOPWORK_PREDICTOR_URL",
    "TOPWORK_RUN_DIR",
)


class DemoFailed(TopworkError):
    """The demo did not reach its goal."""

    status, code = 500, "demo_failed"


@dataclass
class Stopwatch:
    """Seconds of each step, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


@dataclass(frozen=True)
class Served:
    """How the served answers compare with the job's own evaluation."""

    images: int
    agreeing: int
    right: int
    examples: list[tuple[str, str, str, float]]


def run(terminal: Terminal, settings: Settings, data: Path | None, architecture: str | None) -> int:
    """Do it all; return 0 when the accuracy and the agreement are what they must be.

    Raises:
        DemoFailed: They are not, or the service did not start.
        TorchMissing: It is not installed here.
    """
    require_torch()
    watch, config = Stopwatch(), choose(terminal, settings, architecture)
    (settings.data_dir / "tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="demo-", dir=settings.data_dir / "tmp") as folder,
        watch.step("everything"),
    ):
        place = Path(folder)
        source = data or digits(place / "digits")
        with service(place / "service", settings, watch) as topwork:
            with watch.step("upload"):
                job = topwork.finetune(source, name="demo", **config)
            with watch.step("fine-tune and evaluate"):
                job = follow(terminal, topwork, job)
            number = int(str((job.result or {})["model"]).rpartition("@")[2])
            evaluation = topwork.models.evaluation("demo", number)
            with watch.step("predict"):
                served = compare(topwork, source, number)
    return report(
        terminal, config, evaluation, served, watch, goal=None if data else LEAST_ACCURACY
    )


def choose(terminal: Terminal, settings: Settings, architecture: str | None) -> dict[str, Any]:
    """Return network and weights, and say why these: pretrained where that is possible."""
    if architecture:
        return {"architecture": architecture}
    here = [e.architecture for e in local_weights.entries(settings.weights_dir)]
    small = [n for n in here if catalogue.get(n).gigaops <= MOST_GIGAOPS]
    if small:
        name = PRETRAINED if PRETRAINED in small else small[0]
        terminal.say(f"Fine-tuning {name}: its ImageNet weights are on this machine.")
        return {"architecture": name, "weights": "imagenet", "strategy": "head"}
    try:
        fetch(settings)
    except TopworkError as error:
        terminal.say(f"No pretrained weights: {error.message}")
        terminal.say(f"Training {SCRATCH} from scratch instead.")
        short = {"hyperparameters": {"epochs": SCRATCH_EPOCHS}}
        return {"architecture": SCRATCH, "weights": "none", **short}
    terminal.say(f"Fine-tuning {PRETRAINED}: its ImageNet weights were downloaded.")
    return {"architecture": PRETRAINED, "weights": "imagenet", "strategy": "head"}


def fetch(settings: Settings) -> None:
    """Download the demo's pretrained weights into the weights folder.

    Raises:
        WeightsUnavailable: The host did not answer in time, or downloads are switched off.
    """
    published = catalogue.get(PRETRAINED).weights
    if settings.offline or published is None:
        raise WeightsUnavailable("Downloads are switched off (TOPWORK_OFFLINE).")
    settings.weights_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.weights_dir) as folder:
        file = Path(folder, published.file)
        download(
            published.url,
            file,
            hash_prefix=published.hash_prefix,
            timeout=settings.download_timeout,
        )
        local_weights.add(PRETRAINED, file, settings.weights_dir)


@contextlib.contextmanager
def service(folder: Path, settings: Settings, watch: Stopwatch) -> Iterator[Topwork]:
    """Run `topwork up` on a free port and yield a client of it; everything stops afterwards."""
    folder.mkdir()
    log = folder / "log.txt"
    environment = {k: v for k, v in os.environ.items() if k not in OWN_PLACES}
    environment["TOPWORK_WEIGHTS_DIR"] = str(settings.weights_dir)
    options = ("--port", "0", "--data-dir", str(folder))
    child = python("-m", "app.cli", "up", *options, env=environment)
    if sys.platform == "linux":
        child = tethered(child.command, child.env)
    with log.open("wb") as out:
        up = subprocess.Popen(
            child.command,
            env=child.env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the service.
        )
        try:
            with watch.step("start"):
                url = wait_until_ready(up, folder, log)
            with Topwork(url, settings.admin_key.get_secret_value()) as topwork:
                yield topwork
        except TopworkError as error:
            raise DemoFailed(f"{error.message}\n{tail(log)}", hint=error.hint) from error
        finally:
            with watch.step("stop"):
                stop(up)


def wait_until_ready(up: "subprocess.Popen[bytes]", folder: Path, log: Path) -> str:
    """Return the service's address once it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and up.poll() is None:
        text = log.read_text(errors="replace")
        if "ready at" in text:
            return str(json.loads((folder / "topwork.lock").read_text())["url"])
        time.sleep(0.1)
    raise DemoFailed("The service did not start.")


def stop(up: "subprocess.Popen[bytes]") -> None:
    """Stop the supervisor as Ctrl-C would."""
    up.send_signal(signal.SIGINT)
    try:
        up.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        up.kill()  # Its children end with it.
        up.wait()


def tail(log: Path) -> str:
    """Return the last lines of the service's log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def follow(terminal: Terminal, topwork: Topwork, job: Job) -> Job:
    """Wait for the job and return it; raises JobFailed when it did not succeed."""
    done = watch_job(terminal, job)
    if done.state != JobState.SUCCEEDED:
        terminal.say(topwork.jobs.logs(job.id)[-2000:])
    return done.check()


def compare(topwork: Topwork, source: Path, number: int) -> Served:
    """Send every validation image to `POST /predict` and compare with the job's evaluation."""
    own = {
        one.sha256: one
        for one in topwork.models.predictions("demo", number)
        if one.split == Split.VAL
    }
    wanted = dict(own)
    images = (
        (wanted.pop(digest), data)
        for _name, data in images_in(source)
        if (digest := hashlib.sha256(data).hexdigest()) in wanted
    )
    agreeing = right = count = 0
    examples: list[tuple[str, str, str, float]] = []
    while batch := list(islice(images, BATCH)):
        answers = topwork.predict([data for _, data in batch], model=f"demo@{number}", top_k=1)
        for (expected, _data), answer in zip(batch, answers.results, strict=True):
            label = answer.label or answer.status
            count += 1
            agreeing += label == expected.label
            right += label == expected.class_name
            confidence = answer.confidence or 0.0
            examples.append((expected.path, expected.class_name, label, confidence))
    if count != len(own):
        raise DemoFailed(f"{len(wanted)} evaluated images are not in {source}.")
    step = max(1, len(examples) // SHOWN)
    return Served(count, agreeing, right, examples[::step][:SHOWN])


def report(
    terminal: Terminal,
    config: dict[str, Any],
    evaluation: Evaluation,
    served: Served,
    watch: Stopwatch,
    *,
    goal: float | None,
) -> int:
    """Print what came out and return 0, or raise when it is not good enough."""
    accuracy = evaluation.splits[Split.VAL].accuracy or 0.0
    agreement = served.agreeing / max(1, served.images)
    outcome = {
        **config,
        "validation_images": served.images,
        "validation_accuracy": accuracy,
        "served_accuracy": served.right / max(1, served.images),
        "agreement": agreement,
    }
    terminal.show(
        {**outcome, "seconds": watch.seconds},
        lambda: Group(
            table(("result", "value"), outcome.items()),
            "",
            table(("step", "seconds"), ((k, f"{v:.1f}") for k, v in watch.seconds.items())),
            "",
            table(("image", "class", "predicted", "confidence"), served.examples),
        ),
    )
    if not served.images or agreement < 1:
        raise DemoFailed(
            f"POST /predict agrees with the job's evaluation on {served.agreeing} of "
            f"{served.images} images only."
        )
    if goal is not None and accuracy < goal:
        raise DemoFailed(f"The validation accuracy is {accuracy:.3f}, below {goal}.")
    return 0
