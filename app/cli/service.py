"""`topwork up`, `demo`, `doctor`, `openapi`: what runs without a service to talk to.

What these commands need is imported when they run, so that the others start at once.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from app.terminal.output import FAILED, Terminal, local, table
from core.system.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds everything; default TOPWORK_DATA_DIR."),
]
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def chosen(data_dir: Path | None) -> Settings:
    """Return the settings, with another data folder if one is named."""
    return Settings(data_dir=data_dir) if data_dir else Settings()


@local
def up(
    terminal: Terminal,  # noqa: ARG001 - the decorator's.
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    data_dir: DataDir = None,
    slots: Annotated[
        int, typer.Option(min=0, help="Trainings at once; 0 means one for every four cores.")
    ] = 0,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from app.supervisor import up as supervisor  # noqa: PLC0415 - see the module's docstring.

    raise typer.Exit(supervisor.up(supervisor.Plan(host, port, slots), chosen(data_dir)))


@local
def doctor(
    terminal: Terminal,
    data_dir: DataDir = None,
    *,
    deep: Annotated[
        bool,
        typer.Option(help="Check every job, model and data set, too: histories, files, hashes."),
    ] = False,
) -> None:
    """Check this machine and say what to do about what is wrong."""
    from app.cli.doctor import examine, examine_content  # noqa: PLC0415 - see the module's docstring.

    settings = chosen(data_dir)
    findings = [*examine(settings), *(examine_content(settings) if deep else ())]
    terminal.show(
        [finding.to_dict() for finding in findings],
        lambda: table(
            ("check", "", "found", "what to do"),
            ((f.check, Text(f.status, STYLES[f.status]), f.found, f.fix) for f in findings),
        ),
    )
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(FAILED)


@local
def demo(
    terminal: Terminal,
    data: Annotated[
        Path | None, typer.Option(help="Folder or archive; default scikit-learn's digits.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", "--arch", "-m", help="Network to fine-tune.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Run the main job once: upload, fine-tune, evaluate, predict."""
    from app.demo.main_job import run  # noqa: PLC0415 - see the module's docstring.

    raise typer.Exit(run(terminal, chosen(data_dir), data, architecture))


@local
def openapi(terminal: Terminal) -> None:
    """Print the OpenAPI document; no service is needed."""
    from app.api.main import create_app  # noqa: PLC0415 - see the module's docstring.

    terminal.json(create_app(Settings()).openapi())
