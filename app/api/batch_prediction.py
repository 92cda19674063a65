"""Batch predictions: requests checked and turned into jobs, answers as tables."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from app.api import prediction
from app.api.uploads.multipart_archive import Stored
from app.api.uploads.received import use_up
from core.domain import datasets, jobs, predictions, usage
from core.store.row_access import owner_of
from core.store.tables import Dataset, Job
from core.system.settings import Settings
from topwork import types
from topwork.errors import DatasetInvalid, InvalidField, NotFound, StateConflict
from topwork.kinds import TERMINAL, DatasetState, JobKind

# What begins so is a formula to a spreadsheet (OWASP, CSV injection); an apostrophe makes it text.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS = (
    *("path", "sha256", "split", "class", "status", "decision", "reason"),
    *("label", "confidence", "similarity", "class_confidence"),
)
LEAST_ANSWER = 100  # Bytes of the answer to one image; nearly all are longer.
ONE_SOURCE = "Send two requests, one for each."
NO_SPLIT = "Leave `split` out, or name a `dataset`."
NO_IMAGES = "Name a `dataset` or an `upload`, or send multipart/form-data with `file`."


def place(
    session: Session, settings: Settings, asked: types.BatchRequest, stored: Stored | None
) -> Job:
    """Add the job in the caller's transaction; what came in pieces is used up by it.

    Raises:
        QueueFull: Too many jobs wait.
        QuotaExceeded: The owner may not store so much.
        ModelNotFound: There is no such model.
        RejectionUnavailable: It cannot promise the share that is asked for.
        InvalidField: The request names no images, or two sets of them.
        DatasetNotFound, DatasetInvalid: There is no such dataset, or it has no version.
        UploadNotFound: There is no such upload, or another request has used it.
    """
    usage.check_queue(session, settings, owner_of(session))
    config = {
        **_model(session, asked),
        **asked.model_dump(mode="json", include={"top_k", "reject", "split", "name_encoding"}),
    }
    options: dict[str, Any] = {"priority": asked.priority, "metadata": asked.metadata}
    if asked.dataset is not None:
        dataset, number = _dataset(session, asked)
        waits = dataset.state != DatasetState.READY
        images = 0 if waits else _images(session, dataset, number)
        usage.check_bytes(session, settings, owner_of(session), LEAST_ANSWER * images)
        options |= {"dataset_id": dataset.id, "dataset_version": number, "waits": waits}
    else:
        config |= _upload(session, settings, asked, stored)
    return jobs.submit(session, kind=JobKind.PREDICT, config=config, **options)


def _model(session: Session, asked: types.BatchRequest) -> dict[str, Any]:
    """Return the version that a name means now: later it may mean another one."""
    _model, facts, card = prediction.resolve(session, asked.model)
    prediction.check_reject(asked.reject, card)
    if facts["version"] is None:
        return {"model": facts["name"], "architecture": facts["architecture"]}
    return {"model": f"{facts['name']}@{facts['version']}"}


def _dataset(session: Session, asked: types.BatchRequest) -> tuple[Dataset, int | None]:
    if asked.upload is not None:
        message = "name a dataset or an upload, not both"
        raise InvalidField(message, param="upload", hint=ONE_SOURCE)
    identity, _, number = str(asked.dataset).partition("@")
    dataset = datasets.get(session, identity, lock=True)
    if dataset.state == DatasetState.FAILED:
        why = (dataset.error or {}).get("message", "its ingestion failed")
        raise DatasetInvalid(f"the dataset cannot be used: {why}", param="dataset")
    if dataset.state == DatasetState.READY:
        return dataset, datasets.version(session, str(asked.dataset)).number
    return dataset, int(number) if number else None


def _images(session: Session, dataset: Dataset, number: int | None) -> int:
    return int(datasets.version(session, f"{dataset.id}@{number}").summary["images"])


def _upload(
    session: Session, settings: Settings, asked: types.BatchRequest, stored: Stored | None
) -> dict[str, Any]:
    if asked.split is not None:
        message = "only the images of a dataset belong to splits"
        raise InvalidField(message, param="split", hint=NO_SPLIT)
    if stored is None and asked.upload is None:
        raise InvalidField("the request names no images", param="dataset", hint=NO_IMAGES)
    return use_up(session, settings, stored)


def stored_answers(job: Job) -> tuple[str, str]:
    """Return key and hash of the answers of a job, all of them or those that there are.

    Raises:
        StateConflict: The job runs, or waits.
        NotFound: It ended before its first answers were stored.
    """
    place = predictions.location(job, predictions.ANSWERS)
    if place is not None:
        return place
    if job.state in TERMINAL:
        raise NotFound(f"{job.id} ended without an answer", param="job_id")
    message = f"{job.id} is {jobs.display_state(job)}"
    raise StateConflict(message, hint="Ask again when it has ended, or pause it first.")


def table(pieces: Iterable[bytes], top_k: int) -> Iterator[str]:
    """Yield NDJSON answers as CSV (RFC 4180), in which no cell is a formula to a spreadsheet.

    One text for each piece: whoever sends it changes threads for every one.
    """
    others = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "confidence")]
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow([*COLUMNS, *others, "error_code", "error"])
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        rows.writerows(_cells(json.loads(line), top_k) for line in lines)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def _cells(row: dict[str, Any], top_k: int) -> list[Any]:
    ranked = row.get("predictions", [])[1:top_k]
    others = [one[name] for one in ranked for name in ("label", "confidence")]
    blanks = [None] * (2 * (top_k - 1) - len(others))
    error = row.get("error") or {}
    cells = [*map(row.get, COLUMNS), *others, *blanks, error.get("code"), error.get("message")]
    return list(map(_safe, cells))


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
