"""`topwork export`: a model as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from app.terminal.output import Session, facts, remote
from app.terminal.questions import follow
from topwork.kinds import ExportFormat


@remote
def export(
    terminal: Session,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    *,
    version: Annotated[
        int | None, typer.Option(min=1, help="Number of the version; default the newest.")
    ] = None,
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="One ONNX file, a program of torch.export, or the plain bundle."
        ),
    ] = ExportFormat.ONNX,
    folder: Annotated[
        Path, typer.Option("--to", file_okay=False, exists=True, help="Folder for the file.")
    ] = Path(),
) -> None:
    """Write a model as a file that answers alike without this service, and download it."""
    models = terminal.topwork.models
    number = version or models.get(name).latest or 1
    job = models.export(name, number, form)
    terminal.say(f"{job.id} is {job.state}")
    follow(terminal, job).check()
    made = next(one for one in models.exports(name, number) if one.format == form)
    path = models.download(made, folder)
    compared = {part: f"{one.alike} of {one.images} alike" for part, one in made.report.items()}
    terminal.show(made, lambda: facts({"file": str(path), **compared}))
