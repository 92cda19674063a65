"""The tree of commands."""

from typing import Annotated

import typer

from app.cli import audit, backup, datasets, export, jobs, keys, models, service, train, weights
from app.cli.licences import licences
from app.cli.predict import predict
from core.system import process_start
from topwork import __version__

program = typer.Typer(
    name="topwork",
    help="Turn a folder of labelled images into an image classifier behind HTTP.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
program.command("up")(service.up)
program.command("demo")(service.demo)
program.command("doctor")(service.doctor)
program.command("backup")(backup.backup)
program.command("restore")(backup.restore)
program.command("train")(train.train)
program.command("predict")(predict)
program.command("export")(export.export)
program.add_typer(datasets.group, name="datasets")
program.add_typer(jobs.group, name="jobs")
program.add_typer(models.group, name="models")
program.add_typer(keys.group, name="keys")
program.add_typer(audit.group, name="audit")
program.add_typer(weights.group, name="weights")
program.command("licences")(licences)
program.command("openapi")(service.openapi)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so.
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@program.callback()
def _root(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Turn a folder of labelled images into an image classifier behind HTTP."""


def main() -> None:
    """Run the command line."""
    process_start.begin()
    program()
