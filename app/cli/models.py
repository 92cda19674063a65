"""`topwork models`: published classifiers, their versions and aliases."""

from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from app.cli.terminal import Session, facts, remote, table

group = typer.Typer(help="List, inspect and alias models.", no_args_is_help=True)

SPLITS = ("val", "test")
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
            ("model", "versions", "aliases"),
            ((one.name, len(one.versions), one.aliases) for one in found),
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
    version: Annotated[int, typer.Option(min=1, help="Number of the version.")] = 1,
) -> None:
    """Show the metrics, the per-class table and the confusion matrix of a version."""
    found = terminal.topwork.models.evaluation(name, version)
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


def evaluation_tables(found: dict[str, Any]) -> RenderableType:
    """Return overall metrics, one row a class, and the confusion matrix, for each split."""
    parts: list[RenderableType] = []
    for split, one in ((name, found[name]) for name in SPLITS if found.get(name)):
        numbers = {k: v for k, v in one.items() if isinstance(v, int | float)}
        parts.append(table(("metric", "value"), numbers.items(), split))
    return Group(*parts)
