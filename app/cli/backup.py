"""`topwork backup` and `topwork restore`: a whole service as one folder."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.service import DataDir, chosen
from app.terminal.output import Terminal, facts, local


@local
def backup(
    terminal: Terminal,
    target: Annotated[Path, typer.Argument(help="New or empty folder.")],
    data_dir: DataDir = None,
) -> None:
    """Copy a service, while it runs: rows at one moment and every object they refer to."""
    from core.ops.backup import save  # noqa: PLC0415 - as in app/cli/service.py.
    from core.store.resources import open_resources  # noqa: PLC0415 - as above.

    with open_resources(chosen(data_dir)) as resources:
        _show(terminal, target, save(resources, target.absolute()))


@local
def restore(
    terminal: Terminal,
    source: Annotated[Path, typer.Argument(help="Folder that `topwork backup` made.")],
    data_dir: DataDir = None,
) -> None:
    """Fill an empty service from a backup; what was running starts over."""
    from core.ops.restore import restore as fill  # noqa: PLC0415 - as above.

    _show(terminal, source, fill(source, chosen(data_dir)))


def _show(terminal: Terminal, place: Path, found: dict[str, object]) -> None:
    objects = found["objects"]
    assert isinstance(objects, dict)  # noqa: S101 - by the format of backups.
    size = sum(one["size"] for one in objects.values())
    told = {"backup": str(place), "rows": found["rows"], "objects": len(objects), "bytes": size}
    terminal.show(told, lambda: facts(told))
