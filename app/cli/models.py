"""`topwork models`: published classifiers, their versions and aliases."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from app.terminal.output import Session, facts, remote, table

group = typer.Typer(help="List, inspect and alias models.", no_args_is_help=True)

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
def delete(terminal: Session, name: Name) -> None:
    """Delete a model and all of its versions."""
    terminal.topwork.models.delete(name)


def metric_rows(scores: dict[str, Any]) -> Iterator[tuple[str, float, str | None]]:
    """Yield name, value and interval of each overall metric; older versions have fewer."""
    intervals, calibration = scores.get("intervals") or {}, scores.get("calibration") or {}
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    if "macro" in scores:
        numbers["macro_f1"] = scores["macro"]["f1"]
    if calibration:
        numbers["ece_uncalibrated"] = calibration["before"]["ece"]
        numbers["temperature"] = calibration["temperature"]
    for name, value in numbers.items():
        found = intervals.get(name)
        yield name, value, found and f"{found['low']:.3f} to {found['high']:.3f}"


def evaluation_tables(found: dict[str, Any]) -> RenderableType:
    """Return overall metrics, one row a class, and the confusion matrix, for each split."""
    parts: list[RenderableType] = []
    for split, scores in found["splits"].items():
        parts.append(table(METRIC, metric_rows(scores), f"{split}: metrics"))
        rows = ([one.get(name) for name in PER_CLASS] for one in scores.get("per_class", []))
        parts.append(table(PER_CLASS, rows, f"{split}: classes"))
        confusion = scores.get("confusion") or {}
        if confusion.get("matrix"):
            names = confusion["classes"]
            counted = ([name, *row] for name, row in zip(names, confusion["matrix"], strict=True))
            title = f"{split}: rows are true, columns predicted"
            parts.append(table(("class", *names), counted, title))
    return Group(*parts)
