"""`/datasets`: labelled images in immutable versions."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import dataset_revision, finetuning
from app.api.dataset_export import zip_pieces
from app.api.dataset_revision import Draft
from app.api.deps import (
    Config,
    Read,
    ServiceHere,
    Store,
    Text,
    ThisVersion,
    Who,
    Write,
)
from app.api.idempotency import Created, Once
from app.api.manifests import json_lines
from app.api.openapi import bytes_answer, json_or_files, text_answer
from app.api.pagination import Listing, Paging
from app.api.uploads.multipart_archive import Stored, stored
from app.api.uploads.received import Received, received
from app.api.views.datasets import dataset_view, version_view
from app.api.views.jobs import job_view
from app.asgi.etag import IfMatch, TaggedRoute, expect, tag_of
from app.asgi.request_body import RoomyRoute, decode, shaped_as
from core.domain import datasets, jobs, usage
from core.ingest.tables.written import check_classes
from core.ops import garbage
from core.store.row_access import owner_of
from topwork import types
from topwork.errors import InvalidField
from topwork.kinds import ExportForm

router = APIRouter(prefix="/datasets", tags=["Datasets"], route_class=TaggedRoute)
roomy = APIRouter(prefix="/datasets", tags=["Datasets"], route_class=RoomyRoute)
Accept = Annotated[str, Header(include_in_schema=False)]
Line = Annotated[int, Query(ge=0, le=2**31 - 1, description="Number of the last line seen.")]
Many = Annotated[int, Query(ge=1, le=1000, description="Most lines of one page.")]
Form = Annotated[ExportForm, Query(alias="as", description="How classes and splits are written.")]
NDJSON, ZIP = "application/x-ndjson", "application/zip"
LINE = '{"path": "cat/notes.txt", "status": "rejected", "code": "not_an_image", "message": "..."}\n'
Sent = tuple[Received[types.DatasetForm], Stored | None]
DRAFTS = 2  # Each holds a whole manifest, its revision and the bytes of it.


async def _sent(
    request: Request, storage: Store, settings: Config, read: Read
) -> AsyncIterator[Sent]:
    async with (
        received(
            request, settings, read,
            from_json=partial(shaped_as, types.DatasetRequest),
            from_form=partial(shaped_as, types.DatasetForm),
            read_field=_read_field,
        ) as sent,
        stored(storage, sent.upload) as handle,
    ):  # fmt: skip
        yield sent, handle


def _read_field(name: str, text: str) -> Any:
    is_json = name in ("metadata", "split") or (name == "layout" and text.lstrip().startswith("{"))
    return decode(text) if is_json else text


@router.post(
    "",
    status_code=202,
    response_model=types.Job,
    openapi_extra=json_or_files(types.DatasetRequest, types.DatasetForm),
)
def create_dataset(
    once: Once,
    sent: Annotated[Sent, Depends(_sent, scope="function")],
    session: Write,
    settings: Config,
) -> JSONResponse:
    """Upload labelled images; the answer is the job that reads them, and names the dataset."""
    came, handle = sent

    def create() -> Created:
        usage.check_queue(session, settings, owner_of(session))
        fields = came.fields.model_dump(include={"name", "split", "metadata"})
        answers = came.fields.answers()
        dataset = finetuning.add_dataset(session, settings, handle, **fields, answers=answers)
        job = jobs.get(session, str(dataset.job_id))
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, came.fingerprint, create)


@router.get("")
async def list_datasets(
    read: Read, cursor: Listing, state: types.DatasetState | None = None
) -> types.Page[types.Dataset]:
    """List datasets, the newest first."""
    return await cursor.read(read, datasets.page, dataset_view, state=state)


@router.get("/{dataset_id}")
async def get_dataset(dataset_id: Text, read: Read) -> types.Dataset:
    """Return a dataset with its newest version."""
    return await read(lambda session: dataset_view(session, datasets.get(session, dataset_id)))


@router.patch("/{dataset_id}")
def update_dataset(
    dataset_id: Text, patch: types.DatasetPatch, session: Write, if_match: IfMatch = None
) -> types.Dataset:
    """Rename a dataset or replace its metadata."""
    dataset = datasets.get(session, dataset_id, lock=True)
    expect(if_match, tag_of(dataset_view(session, dataset)))
    dataset.name = patch.name or dataset.name
    if patch.metadata is not None:
        dataset.user_metadata = patch.metadata
    return dataset_view(session, dataset)


@router.post("/{dataset_id}/answers", status_code=202, response_model=types.Job)
def answer_dataset(
    dataset_id: Text, body: types.UploadReading, once: Once, session: Write, settings: Config
) -> JSONResponse:
    """Read an upload that raised a question again; what failed with it waits for it again."""
    answers = body.answers()
    if not answers.get("layout", answers):
        raise InvalidField("there is no answer here", param="layout")

    def read_again() -> Created:
        usage.check_queue(session, settings, owner_of(session))
        job = jobs.answer(session, dataset_id, answers)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, body.model_dump_json(), read_again)


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(
    dataset_id: Text, session: Write, service: ServiceHere, later: BackgroundTasks
) -> None:
    """Forget a dataset that no job and no model refers to."""
    keys = datasets.delete(session, dataset_id)
    later.add_task(garbage.discard, service.resources, keys, [f"datasets/{dataset_id}"])


@router.get("/{dataset_id}/versions")
async def list_dataset_versions(dataset_id: Text, read: Read) -> types.Page[types.DatasetVersion]:
    """List the versions of a dataset, the newest first."""
    await read(datasets.get, dataset_id)
    rows = [version_view(row) for row in await read(datasets.versions, dataset_id)]
    return types.Page[types.DatasetVersion].of(rows, has_more=False, key="number")


def _drafted(
    dataset_id: Text, body: types.DatasetVersionRequest, service: ServiceHere, who: Who
) -> Iterator[Draft]:
    with dataset_revision.drafted(service, who, dataset_id, body) as draft:
        yield draft


@roomy.post("/{dataset_id}/versions", status_code=201, response_model=types.DatasetVersion)
def create_dataset_version(
    once: Once,
    draft: Annotated[Draft, Depends(_drafted, scope="function", max_concurrency=DRAFTS)],
    session: Write,
) -> JSONResponse:
    """Make a version: images left out, relabelled, confirmed or split anew; none is copied."""

    def create() -> Created:
        version = version_view(dataset_revision.publish(session, draft.outcome))
        return Created(version.model_dump(mode="json"), version.links["self"], status=201)

    return once(session, draft.fingerprint, create)


@router.get("/{dataset_id}/versions/{number}")
def get_dataset_version(version: ThisVersion) -> types.DatasetVersion:
    """Return one version: classes, counts, findings."""
    return version_view(version)


@router.get(
    "/{dataset_id}/versions/{number}/export",
    response_class=StreamingResponse,
    responses=bytes_answer(ZIP),
)
def export_dataset_version(
    version: ThisVersion, service: ServiceHere, storage: Store, form: Form = ExportForm.FOLDERS
) -> StreamingResponse:
    """Download a version as a zip of its images, with classes and splits in a form to choose."""
    check_classes(form, version.summary["classes"])
    lines = service.manifests.of(version).lines
    name = f"{version.dataset_id}-{version.number}-{form}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    pieces = zip_pieces(storage, lines, form)
    return StreamingResponse(pieces, media_type=ZIP, headers=headers)


@router.get(
    "/{dataset_id}/versions/{number}/report",
    response_model=types.Page[types.ReportLine],
    responses=text_answer({NDJSON: LINE}),
)
def get_dataset_report(
    version: ThisVersion, storage: Store, pager: Paging, after: Line = 0, limit: Many = 100,
    accept: Accept = "",
) -> Any:  # fmt: skip
    """Name every file that is not used, with its reason; as NDJSON where `Accept` asks for it."""
    key = f"{version.prefix}/report.jsonl"
    if not storage.exists(key):
        nothing = types.Page[types.ReportLine](data=[])
        return Response(media_type=NDJSON) if NDJSON in accept else nothing
    if NDJSON in accept:
        return StreamingResponse(storage.stream(key), media_type=NDJSON)
    lines = islice(enumerate(json_lines(storage, key), 1), after, after + limit + 1)
    rows = [types.ReportLine.model_validate({"id": number, **line}) for number, line in lines]
    return pager.page(rows[:limit], len(rows) > limit)
