"""`topwork weights`: pretrained weights in this machine's folder; no service is needed."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.service import DataDir, chosen
from app.terminal.output import FAILED, Terminal, facts, local, table
from core.system.optional_packages import require_torch
from models.planning import catalogue
from models.weights import local_weights

group = typer.Typer(help="Add, list and verify pretrained weights.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option("--weights-dir", help="Folder; default TOPWORK_WEIGHTS_DIR.")
]
MEGABYTE = 2**20


def _folder(given: Path | None, data_dir: Path | None) -> Path:
    return given or chosen(data_dir).weights_dir


@group.command()
@local
def add(
    terminal: Terminal,
    architecture: Annotated[str, typer.Argument(help="Network the weights belong to.")],
    file: Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file.")],
    weights_dir: Folder = None,
    data_dir: DataDir = None,
) -> None:
    """Check a file of weights against its network and keep it."""
    require_torch()
    entry = local_weights.add(architecture, file, _folder(weights_dir, data_dir))
    terminal.show(entry.to_dict(), lambda: facts(entry.to_dict()))


@group.command("list")
@local
def list_weights(
    terminal: Terminal,
    weights_dir: Folder = None,
    data_dir: DataDir = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that are not here.")] = False,
) -> None:
    """List the weights on this machine, with --all every network that has published ones."""
    here = {
        entry.architecture: entry for entry in local_weights.entries(_folder(weights_dir, data_dir))
    }
    published = (name for name in catalogue.names() if catalogue.get(name).weights)
    names = sorted({*here, *published}) if every else sorted(here)
    rows = [here[n].to_dict() if n in here else {"architecture": n} for n in names]
    terminal.show(
        rows,
        lambda: table(
            ("architecture", "MB", "preset", "source"),
            (
                (n, here[n].bytes / MEGABYTE, here[n].record.preset, here[n].record.source)
                if n in here
                else (n, None, None, None)
                for n in names
            ),
        ),
    )


@group.command()
@local
def verify(
    terminal: Terminal,
    architecture: Annotated[str | None, typer.Argument(help="Only this network's.")] = None,
    weights_dir: Folder = None,
    data_dir: DataDir = None,
) -> None:
    """Read the files again and compare them with their recorded hashes."""
    checks = local_weights.verify(_folder(weights_dir, data_dir), architecture)
    terminal.show(
        [{**check.entry.to_dict(), "state": check.state} for check in checks],
        lambda: table(
            ("architecture", "state", "path"),
            ((check.entry.architecture, check.state, check.entry.path) for check in checks),
        ),
    )
    if any(check.state in ("changed", "unreadable") for check in checks):
        raise typer.Exit(FAILED)
