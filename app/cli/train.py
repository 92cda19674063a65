"""`topwork train`: from a folder of labelled images to a model."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from app.cli.local_training import train_here
from app.cli.options import with_training_options
from app.terminal.output import Session, facts, remote, table
from app.terminal.questions import follow
from app.terminal.watch import uploading
from core.system.command_names import command
from topwork.client.synchronous.jobs import Job

DATASET_ID = re.compile(r"ds_[0-9a-z]+(@\d+)?")


@remote
@with_training_options
def train(
    terminal: Session,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder, .zip, .tar, or the id of a dataset.")
    ],
    *,
    config: dict[str, Any],
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Kept with the job; repeatable.")
    ] = None,
    watch: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Train here, without a service, into this folder."),
    ] = None,
) -> None:
    """Fine-tune a network on a folder of labelled images."""
    if metadata:
        config["metadata"] = dict(map(_pair, metadata))
    if output is not None:
        artefact = train_here(terminal, Path(data), output, config)
        card = json.loads((artefact / "card.json").read_text())
        result = {"model": str(artefact), "metrics": card["metrics"]}
        terminal.say(f"The model is in {artefact}")
        terminal.show(result, lambda: metrics(result, "metrics"))
        return
    known = DATASET_ID.fullmatch(data) and not Path(data).exists()
    folder, dataset = (None, data) if known else (data, None)
    with uploading(terminal) as on_bytes:
        if dry_run:
            plan = terminal.topwork.plan(folder, dataset=dataset, on_bytes=on_bytes, **config)
            terminal.show(plan, lambda: facts(plan))
            return
        job = terminal.topwork.finetune(folder, dataset=dataset, on_bytes=on_bytes, **config)
    if watch:
        terminal.say(f"{job.id} is {job.state}")
        job = follow(terminal, job).check()
    terminal.show(job, lambda: outcome(job))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--metadata")
    return name, value


def outcome(job: Job) -> RenderableType:
    """Return the model's name and its metrics by split, or the job's state before it has any."""
    result = job.result or {}
    splits = result.get("metrics") or {}
    if not splits:
        return facts({"job": job.id, "state": job.state, "model": job.model})
    model = str(result.get("model"))
    hint = f"Try it: {command('predict', model.partition('@')[0], 'IMAGE', url=job.url)}"
    return Group(metrics(result, f"model {model}"), hint)


def metrics(result: dict[str, Any], title: str) -> RenderableType:
    """Return the numbers among a model's metrics, a column a split."""
    numbers = {split: _numbers(scores) for split, scores in result["metrics"].items()}
    names = list(dict.fromkeys(name for scores in numbers.values() for name in scores))
    rows = ([name, *(scores.get(name) for scores in numbers.values())] for name in names)
    return table(("metric", *numbers), rows, title)


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {name: one for name, one in scores.items() if isinstance(one, int | float)}
