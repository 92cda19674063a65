"""Follow a job on the terminal: bytes going up, then phase, progress and a table of epochs."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.terminal.output import Terminal, table
from core.system.command_names import command
from topwork.client.synchronous.jobs import Job
from topwork.kinds import EventKind, JobState
from topwork.types.jobs import Event

REFRESH_SECONDS = 1.0
COLUMNS = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_macro_f1", "lr", "seconds")
DONE = object()


@contextlib.contextmanager
def uploading(terminal: Terminal) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback for bytes sent and bytes in all; it draws a bar on a terminal."""
    columns = ("[bold]upload", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    shown = terminal.err.is_terminal and not terminal.as_json
    with Progress(*columns, console=terminal.err, transient=True, disable=not shown) as progress:
        task = progress.add_task("upload", total=None)
        yield lambda sent, total: progress.update(task, completed=sent, total=total)


def watch_job(terminal: Terminal, job: Job) -> Job:
    """Follow a job to its end and return it; people see how it goes, scripts only wait."""
    board = Board(job)
    arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(job, arrived), daemon=True).start()
    live = terminal.err.is_terminal and not terminal.as_json
    display = Live(board, console=terminal.err, refresh_per_second=4) if live else None
    try:
        with display or contextlib.nullcontext():
            for item in _items(arrived):
                if isinstance(item, Event):
                    board.add(item)
                    if not live and item.kind != EventKind.PROGRESS:
                        terminal.say(in_one_line(item))
                elif item is None and live and board.waits:
                    board.job = job.refresh()  # Its place in the queue is no event.
            board.job = job.refresh()
    except KeyboardInterrupt:
        follow = command("jobs", "watch", job.id, url=job.url)
        terminal.say(f"{job.id} goes on; follow it with {follow}")
        raise
    return board.job


class Board:
    """What is known about a running job, drawn anew on each change."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.epochs: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def add(self, event: Event) -> None:
        """Take note of an event."""
        if event.kind == EventKind.PROGRESS:  # Its row, not its history.
            self.job = self.job.model_copy(update=event.data)
        if event.kind == EventKind.STATE:
            self.job = self.job.model_copy(update={"state": event.data["state"]})
        if event.kind == EventKind.EPOCH:
            self.epochs.append(event.data)
        if event.kind == EventKind.NOTE:
            self.notes.append(str(event.data.get("message", "")))

    @property
    def waits(self) -> bool:
        """Whether other jobs run first."""
        return self.job.state in (JobState.WAITING, JobState.QUEUED)

    def __rich__(self) -> RenderableType:
        """Draw it."""
        job = self.job
        head = Table.grid(padding=(0, 1))
        where = f"{job.state}{f', {job.phase}' if job.phase else ''}"
        left = f"{job.eta:.0f} s left" if job.eta and not job.terminal else ""
        bar = ProgressBar(total=1.0, completed=job.progress, width=30)
        head.add_row(Text(job.id, style="bold"), where, bar, f"{job.progress:.0%}", left)
        parts: list[RenderableType] = [head]
        if job.queue_position:
            parts.append(Text(f"{job.queue_position} jobs run before this one"))
        if job.waiting_for:
            parts.append(Text(f"waits: {job.waiting_for.reason}"))
        if self.epochs:
            rows = ([epoch.get(name) for name in COLUMNS] for epoch in self.epochs)
            parts.append(table(COLUMNS, rows))
        parts.extend(Text(note, style="yellow") for note in self.notes)
        return Group(*parts)


def in_one_line(event: Event) -> str:
    """Return an event in one line."""
    data = event.data
    if event.kind == EventKind.EPOCH:
        shown = [f"{name} {data[name]:.4g}" for name in COLUMNS[1:] if name in data]
        return f"epoch {data.get('epoch')}: {', '.join(shown)}"
    if event.kind == EventKind.PLAN:
        plan = data.get("plan", data)
        return "plan: " + ", ".join(
            f"{name} {one['value']}"
            for name, one in plan.items()
            if isinstance(one, dict) and not isinstance(one["value"], dict)
        )
    words = data.get("message") or ", ".join(f"{name} {one}" for name, one in data.items())
    return words if event.kind in data else f"{event.kind}: {words}"


def _listen(job: Job, arrived: "queue.SimpleQueue[Any]") -> None:
    try:
        for event in job.stream():
            arrived.put(event)
    except Exception as error:  # noqa: BLE001 - raised again where it is waited for.
        arrived.put(error)
    arrived.put(DONE)


def _items(arrived: "queue.SimpleQueue[Any]") -> Iterator[Event | None]:
    """Yield events as they arrive, and None whenever nothing did for a while."""
    while True:
        try:
            item = arrived.get(timeout=REFRESH_SECONDS)
        except queue.Empty:
            yield None
            continue
        if item is DONE:
            return
        if isinstance(item, Exception):
            raise item
        yield item
