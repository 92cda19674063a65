"""Train on this machine without a service, for `topwork train --output OUT`.

OUT holds two run directories (`core.system.run_dir`), each done by a process of its own as a worker
has it done: `dataset` by `core.ingest`, `training` by `models.train`. The same command again goes
on from the last checkpoint, or finds that all is done.
"""

import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from app.terminal.output import Terminal
from app.terminal.watch import in_one_line
from core.system import locks
from core.system.atomic_files import write_atomically
from core.system.child import reader, tethered
from core.system.machine import cores
from core.system.optional_packages import require_torch
from core.system.run_dir import DONE, FAILED
from core.system.settings import Settings
from models.planning.request import TrainRequest
from topwork.client.sources import ignore, opened
from topwork.errors import InvalidField, JobFailed, StateConflict, from_dict
from topwork.kinds import EventKind
from topwork.types.finetune import FinetuneRequest
from topwork.types.jobs import Event

TICK_SECONDS = 0.2
BLOCK = 1 << 20
LAST_WORDS = 300  # Characters of a crashed child's log that go into the error.
LIMITS = ("max_archive_entries", "max_entry_bytes", "max_expanded_bytes", "max_image_pixels")


def train_here(terminal: Terminal, data: Path, output: Path, config: dict[str, Any]) -> Path:
    """Read a folder or an archive, train on it, and return the folder of the artefact.

    Raises:
        FolderUnusable: There are no images to read.
        InvalidField: The weights are a model of the service's, or `output` lies inside of `data`.
        StateConflict: `output` holds a training on other images or with other settings, or another
            process trains there.
        TopworkError: What ingestion or training ended with.
    """
    require_torch()
    asked = FinetuneRequest.model_validate(config)
    if asked.weights.startswith("model:"):
        raise InvalidField("Models belong to a service; train without --output.", param="weights")
    if output.resolve().is_relative_to(data.resolve()):
        words = f"{output} is inside of {data}, and would be read as a part of it."
        raise InvalidField(words, param="output")
    settings = Settings()
    with _packed(data, output) as archive:
        _claim(output, archive, asked)
        reading = {
            "archive": str(archive.resolve()),
            "split": {**asked.split.model_dump(), "seed": asked.seed},
            "answers": asked.answers(),
            "limits": settings.model_dump(include=set(LIMITS)),
        }
        dataset = _done(terminal, "core.ingest", output / "dataset", reading)
    training = TrainRequest(
        name=asked.name or output.resolve().name,
        config=asked.train_config(),
        dataset=dataset,
        dataset_sha256=hashlib.sha256((dataset / "dataset.json").read_bytes()).hexdigest(),
        weights_dir=settings.weights_dir,
        offline=settings.offline,
        download_timeout=settings.download_timeout,
    )
    return _done(terminal, "models.train", output / "training", training.model_dump(mode="json"))


@contextlib.contextmanager
def _packed(data: Path, output: Path) -> Iterator[Path]:
    """Yield the archive; of a folder one is written for now, always of the same bytes."""
    name, source = opened(data, ignore)
    output.mkdir(parents=True, exist_ok=True)
    with source:
        if not data.is_dir():
            yield data
            return
        packed = output / name
        try:
            with packed.open("wb") as file:
                shutil.copyfileobj(source, file, BLOCK)
            yield packed
        finally:
            packed.unlink()


def _claim(output: Path, archive: Path, asked: FinetuneRequest) -> None:
    """Note what `output` is for; refuse one that is for something else."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    order = json.dumps({"sha256": digest, **asked.model_dump(mode="json")}, sort_keys=True).encode()
    noted = output / "order.json"
    if not noted.exists():
        write_atomically(noted, order)
    elif noted.read_bytes() != order:
        words = f"{output} holds a training on other images or with other settings."
        raise StateConflict(words, hint="Name another folder with --output, or remove this one.")


def _done(terminal: Terminal, module: str, run_dir: Path, request: dict[str, Any]) -> Path:
    """Do a run as far as it is not done, and return the folder of its result."""
    run_dir.mkdir(exist_ok=True)
    try:
        with locks.hold(run_dir):
            return _done_alone(terminal, module, run_dir, request)
    except BlockingIOError as error:
        raise StateConflict(f"another process trains in {run_dir.parent}") from error


def _done_alone(terminal: Terminal, module: str, run_dir: Path, request: dict[str, Any]) -> Path:
    result = run_dir.resolve() / "result"
    if result.is_dir():
        return result
    write_atomically(run_dir / "request.json", json.dumps(request, indent=1).encode())
    with (run_dir / "events.jsonl").open("a+b") as events, (run_dir / "log.txt").open("ab") as log:
        # It ends with this command, however that ends, and keeps its last checkpoint.
        child = tethered(*reader("-m", module, str(run_dir), threads=cores()))
        process = subprocess.Popen(
            child.command, env=child.env, stdout=log, stderr=log, start_new_session=True
        )
        with _stopped_by_ctrl_c(terminal, process):
            while process.poll() is None:
                time.sleep(TICK_SECONDS)
                _tell(terminal, events)
        _tell(terminal, events)
    if process.returncode == FAILED:
        raise from_dict(json.loads((run_dir / "error.json").read_text()))
    if process.returncode != DONE:
        said = (run_dir / "log.txt").read_text(errors="replace")[-LAST_WORDS:].strip()
        raise JobFailed(f"{module} ended with {process.returncode}: {said}")
    return result


@contextlib.contextmanager
def _stopped_by_ctrl_c(terminal: Terminal, process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Let the run save a checkpoint before Ctrl-C ends this command."""
    try:
        yield
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        terminal.say("Stopped; the same command goes on from here.")
        raise


def _tell(terminal: Terminal, events: IO[bytes]) -> None:
    """Say what was reported since the last look; a line that is not whole comes next time."""
    for line in events.readlines():
        if not line.endswith(b"\n"):
            events.seek(-len(line), 1)
            return
        data = json.loads(line)
        kind = data.pop("kind")
        if kind != EventKind.PROGRESS:
            terminal.say(in_one_line(Event(seq=0, at=None, kind=kind, data=data)))
