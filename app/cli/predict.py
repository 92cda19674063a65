"""`topwork predict`: some images at once, or a folder, an archive or a dataset as a job."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from app.cli.train import DATASET_ID
from app.terminal.output import Session, facts, remote, table
from app.terminal.watch import uploading, watch_job
from core.ingest.archive import ARCHIVE_SUFFIXES
from topwork.client.synchronous.jobs import Job
from topwork.errors import NotFound
from topwork.kinds import RejectMode
from topwork.types.predictions import Prediction


def read_reject(text: str) -> str | float:
    """Return a share as a number, and what else there may be as it is."""
    if text in tuple(RejectMode):
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is neither auto nor none nor a share.") from None


@remote
def predict(
    terminal: Session,
    model: Annotated[
        str, typer.Argument(help="Own name, name@alias, name@3, or an architecture (ImageNet).")
    ],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Image files; or one folder, archive or dataset id, for a job."
        ),
    ],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Classes per image.")] = 3,
    reject: Annotated[
        Any,
        typer.Option(
            parser=read_reject,
            metavar="auto|none|SHARE",
            help="When to abstain; SHARE of images of the model's classes is accepted, as 0.9.",
        ),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write a job's answers here: a table for .csv, else NDJSON."
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write each image there with its heat map: what spoke for its label, and against.",
        ),
    ] = None,
    explain_class: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Explain this class instead of the first one."),
    ] = None,
) -> None:
    """Classify images."""
    if explain_class is not None and explain is None:
        raise typer.BadParameter("It takes --explain.", param_hint="--explain-class")
    if len(images) == 1 and _is_batch(images[0]):
        if explain is not None:
            raise typer.BadParameter("It takes image files as IMAGE.", param_hint="--explain")
        _batch(terminal, model, images[0], output, {"top_k": top_k, "reject": reject})
        return
    if output is not None:
        hint = "It takes one folder, archive or dataset as IMAGE."
        raise typer.BadParameter(hint, param_hint="--output")
    asked: dict[str, Any] = {"model": model, "top_k": top_k, "reject": reject}
    if explain is not None:
        asked |= {"explain": "heatmap", "explain_class": explain_class, "explain_overlay": True}
    prediction = terminal.topwork.predict(images, **asked)
    if explain is not None:
        _save(prediction, images, explain)
        terminal.say(f"The heat maps are in {explain}")
    terminal.show(prediction, lambda: ranking(prediction))


def _save(prediction: Prediction, images: Sequence[Path], folder: Path) -> None:
    """Write the heat map of each image that has one, under the image's own name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (path, result) in enumerate(zip(images, prediction.results, strict=True)):
        if result.heatmap is not None:
            taken = path.stem in {other.stem for other in images[:number]}
            name = f"{path.stem}-{number}" if taken else path.stem
            result.heatmap.save(folder / f"{name}.heatmap.png")


def _is_batch(path: Path) -> bool:
    named = DATASET_ID.fullmatch(str(path)) is not None
    return path.is_dir() or path.name.lower().endswith(ARCHIVE_SUFFIXES) or named


def _batch(
    terminal: Session, model: str, path: Path, output: Path | None, asked: dict[str, Any]
) -> None:
    """Classify by a job; of one that ends early the answers so far are written."""
    source: dict[str, Any] = {"data": path}
    if not path.exists() and DATASET_ID.fullmatch(str(path)):
        source = {"dataset": str(path)}
    predictions = terminal.topwork.predictions
    with uploading(terminal) as on_bytes:
        job = predictions.create(model=model, on_bytes=on_bytes, **asked, **source)
    terminal.say(f"{job.id} is {job.state}")
    job = watch_job(terminal, job)
    if output is not None:
        try:
            predictions.save(job.id, output)
        except NotFound:
            job.check()  # It has no answers, and says why.
            raise
    job.check()
    terminal.show(job, lambda: outcome(job, output))


def outcome(job: Job, output: Path | None) -> RenderableType:
    """Return how many images were answered, the scores of those of known classes, and where."""
    result = job.result or {}
    told = facts(
        {name: result.get(name) for name in ("answered_by", "images", "failed", "abstained")}
    )
    rows = (
        (split, scores["images"], scores["accuracy"], scores["macro_f1"], scores["ece"])
        for split, scores in result.get("metrics", {}).items()
    )
    names = ("known classes", "images", "accuracy", "macro_f1", "ece")
    parts: list[RenderableType] = [told]
    if result.get("metrics"):
        parts.append(table(names, rows))
    if output is None:
        where = f"{job.url}/predictions/{job.id}/results?as=csv"
        parts.append(f"The answers are at {where}")
    return Group(*parts)


def ranking(prediction: Prediction) -> RenderableType:
    """Return one row an image: the classes in order, or what is wrong with it."""
    return table(
        ("image", "label", "confidence", "decision", "then"),
        (
            (
                one.filename,
                one.label or (one.error and one.error.message),
                one.confidence,
                one.reason or one.decision,
                ", ".join(f"{other.label} {other.confidence:.3f}" for other in one.predictions[1:]),
            )
            for one in prediction.results
        ),
    )
