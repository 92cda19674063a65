"""`topwork datasets`: images on the service."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import upload_answers
from app.terminal.output import Session, facts, remote, table
from app.terminal.questions import follow
from app.terminal.watch import uploading
from topwork.client.synchronous.jobs import Job
from topwork.errors import InvalidField
from topwork.kinds import ExportForm, SuspectKind

group = typer.Typer(help="Add, list and inspect datasets.", no_args_is_help=True)

NameEncoding = Annotated[
    str | None, typer.Option(help="Of the names in an old archive, such as gb18030 or cp850.")
]
Layout = Annotated[
    str | None,
    typer.Option(metavar="WORD|JSON", help="What folders mean: outer, inner, path, filename."),
]
Watch = Annotated[bool, typer.Option(help="Follow until it is ready.")]
Version = Annotated[int, typer.Option(min=1, help="Version of the dataset.")]
Named = Annotated[list[str] | None, typer.Option(metavar="SHA256", help="Such an image.")]
DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="Id of the dataset.")]


@group.command()
@remote
def add(
    terminal: Session,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder, .zip, .tar or .tar.gz.")],
    name: Annotated[str | None, typer.Option(help="Name to show; default the file's.")] = None,
    name_encoding: NameEncoding = None,
    layout: Layout = None,
    *,
    watch: Watch = True,
) -> None:
    """Upload a folder or archive of labelled images."""
    answers = upload_answers(name_encoding=name_encoding, layout=layout)
    with uploading(terminal) as on_bytes:
        job = terminal.topwork.datasets.create(data, name=name, on_bytes=on_bytes, **answers)
    _read(terminal, job, watch=watch)


def _read(terminal: Session, job: Job, *, watch: bool) -> None:
    """Follow the job that reads an upload, and show its dataset."""
    if watch:
        job = follow(terminal, job).check()
    found = terminal.topwork.datasets.get(str(job.dataset).partition("@")[0])
    terminal.show(found, lambda: facts(found))


@group.command()
@remote
def answer(
    terminal: Session,
    dataset: DatasetId,
    name_encoding: NameEncoding = None,
    layout: Layout = None,
    *,
    watch: Watch = True,
) -> None:
    """Answer the question that reading an upload raised; it is read again."""
    answers = upload_answers(name_encoding=name_encoding, layout=layout)
    _read(terminal, terminal.topwork.datasets.answer(dataset, **answers), watch=watch)


@group.command("list")
@remote
def list_datasets(
    terminal: Session, limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 20
) -> None:
    """List datasets, the newest first."""
    found = list(islice(terminal.topwork.datasets.list(), limit))
    terminal.show(
        found,
        lambda: table(
            ("dataset", "name", "state", "contents"),
            ((one.id, one.name, one.state, one.latest and one.latest.reading) for one in found),
        ),
    )


@group.command()
@remote
def show(terminal: Session, dataset: DatasetId) -> None:
    """Show one dataset."""
    found = terminal.topwork.datasets.get(dataset)
    terminal.show(found, lambda: facts(found))


@group.command()
@remote
def report(
    terminal: Session,
    dataset: DatasetId,
    version: Version = 1,
) -> None:
    """List every file that was skipped, rejected or noted, with the reason."""
    lines = list(terminal.topwork.datasets.report(dataset, version))
    terminal.show(
        lines,
        lambda: table(
            ("path", "status", "code", "message"),
            ((line.path, line.status, line.code, line.message) for line in lines),
        ),
    )


@group.command()
@remote
def suspects(
    terminal: Session,
    dataset: DatasetId,
    version: Version = 1,
    finding: Annotated[
        SuspectKind, typer.Option(help="Likely wrong labels, or images like no other.")
    ] = SuspectKind.LABEL,
    model: Annotated[str | None, typer.Option(help="Whose evaluation; default the newest.")] = None,
) -> None:
    """List images to look at, the worst first, as the evaluation of a model names them."""
    found = list(terminal.topwork.datasets.images(dataset, version, finding=finding, model=model))
    terminal.show(
        found,
        lambda: table(
            ("score", "class", "likely", "path", "sha256"),
            (
                (one.suspect.score, one.class_name, one.suspect.likely, one.path, one.sha256)
                for one in found
                if one.suspect
            ),
        ),
    )


@group.command()
@remote
def revise(
    terminal: Session,
    dataset: DatasetId,
    base: Annotated[int | None, typer.Option(help="Version to start from; the newest.")] = None,
    exclude: Named = None,
    relabel: Annotated[
        list[str] | None, typer.Option(metavar="SHA256=CLASS", help="The class it belongs to.")
    ] = None,
    confirm: Named = None,
) -> None:
    """Make a version with images left out, relabelled or confirmed; options may be repeated."""
    pairs = [text.partition("=") for text in relabel or []]
    if wrong := [sha256 for sha256, _, name in pairs if not name]:
        raise InvalidField(f"{wrong[0]!r} names no class", param="relabel")
    made = terminal.topwork.datasets.revise(
        dataset,
        base=base,
        exclude=exclude or [],
        relabel={sha256: name for sha256, _, name in pairs},
        confirm=confirm or [],
    )
    terminal.show(made, lambda: facts(made))


@group.command()
@remote
def export(
    terminal: Session,
    dataset: DatasetId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The zip to write.")],
    version: Version = 1,
    form: Annotated[
        ExportForm, typer.Option("--as", help="How classes and splits are written.")
    ] = ExportForm.FOLDERS,
) -> None:
    """Download a version as a zip that can be uploaded again."""
    written = terminal.topwork.datasets.export(dataset, file, version, form=form)
    terminal.show({"file": str(written)}, lambda: f"wrote {written}")


@group.command()
@remote
def delete(terminal: Session, dataset: DatasetId) -> None:
    """Delete a dataset that no job or model refers to."""
    terminal.topwork.datasets.delete(dataset)
