"""Batch predictions: requests checked and turned into jobs, answers as tables."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from app.api import prediction
from app.api.uploads.multipart_archive import Stored
from app.asgi.request_body import decode
from core.domain import datasets, jobs, predictions, uploads, usage
from core.store.object_store import Storage
from core.store.row_access import owner_of
from core.store.tables import Dataset, Job
from core.system.settings import Settings
from topwork import types
from topwork.errors import DatasetInvalid, InvalidField, NotFound, StateConflict, UploadNotFound
from topwork.kinds import TERMINAL, DatasetState, JobKind

# What begins so is a formula to a spreadsheet (OWASP, CSV injection); an apostrophe makes it text.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS = ("path", "sha256", "split", "class", "status", "label", "confidence", "class_confidence")
ONE_SOURCE = "Send two requests, one for each."
NO_SPLIT = "Leave `split` out, or name a `dataset`."
NO_IMAGES = "Name a `dataset` or an `upload`, or send multipart/form-data with `file`."


def read_field(name: str, text: str) -> Any:
    """Return what is kept of a field of a form: `metadata` and `top_k` are JSON."""
    return decode(text) if name in ("metadata", "top_k") else text


def place(
    session: Session, settings: Settings, asked: types.BatchRequest, stored: Stored | None
) -> Job:
    """Add the job in the caller's transaction; what came in pieces is used up by it.

    Raises:
        QueueFull: Too many jobs wait.
        QuotaExceeded: The owner may not store so much.
        ModelNotFound: There is no such model.
        InvalidField: The request names no images, or two sets of them.
        DatasetNotFound, DatasetInvalid: There is no such dataset, or it has no version.
        UploadNotFound: There is no such upload, or another request has used it.
    """
    usage.check_queue(session, settings, owner_of(session))
    config = {
        **_model(session, asked.model),
        **asked.model_dump(mode="json", include={"top_k", "split", "name_encoding"}),
    }
    options: dict[str, Any] = {"priority": asked.priority, "metadata": asked.metadata}
    if asked.dataset is not None:
        dataset, number = _dataset(session, asked)
        waits = dataset.state != DatasetState.READY
        options |= {"dataset_id": dataset.id, "dataset_version": number, "waits": waits}
    else:
        config |= _upload(session, settings, asked, stored)
    return jobs.submit(session, kind=JobKind.PREDICT, config=config, **options)


def _model(session: Session, reference: str) -> dict[str, Any]:
    """Return the version that a name means now: later it may mean another one."""
    _, facts = prediction.resolve(session, reference)
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


def _upload(
    session: Session, settings: Settings, asked: types.BatchRequest, stored: Stored | None
) -> dict[str, Any]:
    if asked.split is not None:
        message = "only the images of a dataset belong to splits"
        raise InvalidField(message, param="split", hint=NO_SPLIT)
    if stored is None:
        if asked.upload is None:
            raise InvalidField("the request names no images", param="dataset", hint=NO_IMAGES)
        raise UploadNotFound(param="upload")
    if stored.upload.partial is not None:
        uploads.delete(session, stored.upload.partial)
    usage.check_bytes(session, settings, owner_of(session), stored.size)
    stored.kept = True
    return {"upload": stored.key, "bytes": stored.size, "sha256": stored.upload.sha256}


def stored_answers(storage: Storage, job: Job) -> str:
    """Return the key of the answers of a job, all of them or those that there are.

    Raises:
        StateConflict: The job runs, or waits.
        NotFound: It ended before its first answers were stored.
    """
    key = f"{predictions.prefix(job)}/{predictions.ANSWERS}"
    if storage.exists(key):
        return key
    if job.state in TERMINAL:
        raise NotFound(f"{job.id} ended without an answer", param="job_id")
    message = f"{job.id} is {jobs.display_state(job)}"
    raise StateConflict(message, hint="Ask again when it has ended, or pause it first.")


def table(pieces: Iterable[bytes], top_k: int) -> Iterator[str]:
    """Yield NDJSON answers as CSV (RFC 4180), in which no cell is a formula to a spreadsheet."""
    ranks = range(2, top_k + 1)
    others = [f"{name}_{rank}" for rank in ranks for name in ("label", "confidence")]
    yield _line([*COLUMNS, *others, "error_code", "error"])
    for line in _lines(pieces):
        row = json.loads(line)
        ranked = row.get("predictions", [])[1:top_k]
        rest = [one[name] for one in ranked for name in ("label", "confidence")]
        error = row.get("error") or {}
        blanks = [None] * (len(others) - len(rest))
        cells = [*map(row.get, COLUMNS), *rest, *blanks, error.get("code"), error.get("message")]
        yield _line(cells)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_safe(cell) for cell in cells])
    return text.getvalue()


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
