"""`topwork models`: published classifiers, their versions and aliases."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from app.cli.bundles import bundled
from app.terminal.output import Session, facts, remote, table
from app.terminal.questions import follow
from app.terminal.watch import uploading
from topwork.types.comparisons import Change, Comparison
from topwork.types.evaluation import Evaluation, SplitEvaluation
from topwork.types.promotions import Gate

group = typer.Typer(help="List, inspect and alias models.", no_args_is_help=True)

CHANGES = ("class", "images", "old", "new", "change", "95 % interval", "fixed", "broken")
METRIC = ("metric", "value", "95 % interval")
PER_CLASS = ("class", "support", "precision", "recall", "f1")
Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]


@group.command("list")
@remote
def list_models(
    terminal: Session, limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 20
) -> None:
    """List models."""
    found = list(islice(terminal.topwork.models.list(), limit))
    terminal.show(
        found,
        lambda: table(
            ("model", "source", "architecture", "latest", "aliases"),
            (
                (
                    one.name,
                    one.source,
                    one.architecture,
                    one.latest,
                    ", ".join(f"{alias} -> {number}" for alias, number in one.aliases.items()),
                )
                for one in found
            ),
        ),
    )


@group.command()
@remote
def show(terminal: Session, name: Name) -> None:
    """Show one model with its versions and aliases."""
    found = terminal.topwork.models.get(name)
    terminal.show(found, lambda: facts(found))


@group.command()
@remote
def evaluation(
    terminal: Session,
    name: Name,
    version: Annotated[
        int | None, typer.Option(min=1, help="Number of the version; default the newest.")
    ] = None,
) -> None:
    """Show metrics with their intervals, the per-class table and the confusion matrix."""
    number = version or terminal.topwork.models.get(name).latest or 1
    found = terminal.topwork.models.evaluation(name, number)
    terminal.show(found, lambda: evaluation_tables(found))


@group.command("import")
@remote
def import_model(
    terminal: Session,
    name: Name,
    source: Annotated[
        Path,
        typer.Argument(
            exists=True,
            help="A bundle; the folder of a model that was trained without a service; or another"
            " program's .pth or .safetensors file, with --architecture and --classes.",
        ),
    ],
    architecture: Annotated[
        str | None, typer.Option(help="Network of another program's file.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Its classes in the order of the outputs: names with commas between them, or a"
            " text file with one a line."
        ),
    ] = None,
) -> None:
    """Take in a model as the next version of this name; its scores stay where it was measured."""
    with bundled(source, architecture, classes) as bundle, uploading(terminal) as on_bytes:
        job = terminal.topwork.models.import_bundle(bundle, name=name, on_bytes=on_bytes)
    terminal.say(f"{job.id} is {job.state}")
    job = follow(terminal, job).check()
    number = int(str((job.result or {})["model"]).rpartition("@")[2])
    made = terminal.topwork.models.version(name, number)
    terminal.show(made, lambda: facts(made))


@group.command()
@remote
def compare(
    terminal: Session,
    name: Name,
    old: Annotated[str, typer.Argument(help="Number or alias of the old version.")],
    new: Annotated[str, typer.Argument(help="Number or alias of the new version.")],
    split: Annotated[
        str | None, typer.Option(help="test or val; test where both have it, if left out.")
    ] = None,
) -> None:
    """Show per class what gets better and worse from one version to another."""
    found = terminal.topwork.models.compare(name, old, new, split=split)
    terminal.show(found, lambda: comparison_table(found))


@group.command()
@remote
def alias(
    terminal: Session,
    name: Name,
    alias: Annotated[str, typer.Argument(help="For example production.")],
    version: Annotated[int | None, typer.Argument(help="Number of the version.")] = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
) -> None:
    """Point an alias at a version, or remove it."""
    if delete:
        terminal.topwork.models.delete_alias(name, alias)
        return
    if version is None:
        raise typer.BadParameter("Name the version, or pass --delete.", param_hint="VERSION")
    answer = terminal.topwork.models.set_alias(name, alias, version)
    terminal.show(answer, lambda: facts(answer))


@group.command()
@remote
def promote(
    terminal: Session,
    name: Name,
    alias: Annotated[str, typer.Argument(help="For example production.")],
    version: Annotated[int, typer.Argument(help="Number of the version.")],
    max_class_drop: Annotated[
        float, typer.Option(min=0, max=1, help="By how much the recall of a class may fall.")
    ] = 0.05,
    max_accuracy_drop: Annotated[
        float,
        typer.Option(min=0, max=1, help="How far below 0 the interval of the change may reach."),
    ] = 0.05,
    max_ece: Annotated[
        float | None, typer.Option(min=0, max=1, help="Most expected calibration error.")
    ] = None,
    min_images: Annotated[int, typer.Option(min=1, help="Fewest images to judge by.")] = 1,
) -> None:
    """Point an alias at a version that is no worse than the one it points at."""
    gate = Gate(
        max_class_drop=max_class_drop,
        max_accuracy_drop=max_accuracy_drop,
        max_ece=max_ece,
        min_images=min_images,
    )
    answer = terminal.topwork.models.promote(name, alias, version, gate=gate)
    terminal.show(answer, lambda: facts(answer))


@group.command()
@remote
def rollback(
    terminal: Session,
    name: Name,
    alias: Annotated[str, typer.Argument(help="For example production.")],
) -> None:
    """Point an alias at the version before; asked again, at the one before that."""
    answer = terminal.topwork.models.roll_back(name, alias)
    terminal.show(answer, lambda: facts(answer))


@group.command()
@remote
def delete(terminal: Session, name: Name) -> None:
    """Delete a model to which no alias points, and all of its versions."""
    terminal.topwork.models.delete(name)


def metric_rows(scores: SplitEvaluation) -> Iterator[tuple[str, float, str | None]]:
    """Yield name, value and interval of each overall metric; older versions have fewer."""
    calibration, abstention = scores.calibration, scores.abstention
    numbers = {
        "images": scores.images,
        "accuracy": scores.accuracy,
        "log_loss": scores.log_loss,
        "ece": scores.ece,
        "macro_f1": scores.macro.f1 if scores.macro else None,
        "ece_uncalibrated": calibration.before.ece if calibration else None,
        "temperature": calibration.temperature if calibration else None,
        "accepted": abstention.coverage if abstention else None,
        "accuracy_accepted": abstention.accuracy if abstention else None,
    }
    measured = {
        "accepted": abstention and abstention.coverage_interval,
        "accuracy_accepted": abstention and abstention.accuracy_interval,
    }
    for name, value in numbers.items():
        found = measured.get(name) or getattr(scores.intervals, name, None)
        if value is not None:
            yield name, value, found and f"{found.low:.3f} to {found.high:.3f}"


def evaluation_tables(found: Evaluation) -> RenderableType:
    """Return overall metrics, one row a class, and the confusion matrix, for each split."""
    if not found.splits:
        return "This version came without an evaluation."
    parts: list[RenderableType] = []
    for split, scores in found.splits.items():
        parts.append(table(METRIC, metric_rows(scores), f"{split}: metrics"))
        rows = (
            (one.class_name, one.support, one.precision, one.recall, one.f1)
            for one in scores.per_class
        )
        parts.append(table(PER_CLASS, rows, f"{split}: classes"))
        confusion = scores.confusion
        if confusion is not None and confusion.matrix:
            named = zip(confusion.classes, confusion.matrix, strict=True)
            title = f"{split}: rows are true, columns predicted"
            counted = ([name, *row] for name, row in named)
            parts.append(table(("class", *confusion.classes), counted, title))
    return Group(*parts)


def comparison_table(found: Comparison) -> RenderableType:
    """Return one row for all images, one for each class, and the calibration errors."""

    def row(name: str, one: Change) -> tuple[str | float | None, ...]:
        interval = None if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
        change = None if one.change is None else f"{one.change:+.3f}"
        return name, one.images, one.old, one.new, change, interval, one.fixed, one.broken

    rows = [row("all", found.accuracy), *(row(one.class_name, one) for one in found.per_class)]
    title = f"{found.model}@{found.old} against {found.model}@{found.new} on {found.split}"
    calibration = table(
        ("calibration error", "old", "new"), [("ece", found.ece.old, found.ece.new)]
    )
    return Group(table(CHANGES, rows, title), calibration)
