"""`/jobs`: one resource for every kind of work."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Query
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from app.api.deps import Config, Read, ServiceHere, Store, Text, ThisJob, Who, Write
from app.api.event_stream import stream
from app.api.idempotency import Created, Once
from app.api.openapi import text_answer
from app.api.pagination import Listing, Paging
from app.api.views.jobs import job_view
from app.api.views.rows import shaped
from app.asgi.request_body import StrictRoute
from core.domain import checkpoints, events, jobs, usage
from core.domain.products import PLACES
from core.ops import garbage
from topwork import types
from topwork.errors import MalformedRequest
from topwork.kinds import EventKind, JobState, Product

PREDICTIONS = PLACES[Product.PREDICTIONS]
router = APIRouter(prefix="/jobs", tags=["Jobs"], route_class=StrictRoute)
Seq = Annotated[int, Query(ge=0, le=2**31 - 1, description="Number of the last event seen.")]
Many = Annotated[int, Query(ge=1, le=1000, description="Most events of one page.")]
LastSeen = Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)]
Accept = Annotated[str, Header(include_in_schema=False)]
LOG = {"text/plain": "epoch 1: loss 0.214, accuracy 0.91\n"}


@router.get("")
async def list_jobs(
    read: Read,
    cursor: Listing,
    state: types.JobState | None = None,
    kind: types.JobKind | None = None,
    dataset: Annotated[str | None, Query(max_length=200)] = None,
) -> types.Page[types.Job]:
    """List jobs, the newest first."""
    return await cursor.read(read, jobs.page, job_view, state=state, kind=kind, dataset=dataset)


@router.get("/{job_id}")
async def get_job(job_id: Text, read: Read) -> types.Job:
    """Return a job as it is now."""
    return await read(lambda session: job_view(session, jobs.get(session, job_id)))


def _without_history(job_id: Text, who: Who, service: ServiceHere) -> None:
    shortened = False
    while not shortened:
        with service.resources.database.write(who) as session:
            shortened = jobs.forget_events(session, job_id)


@router.delete("/{job_id}", status_code=204, dependencies=[Depends(_without_history)])
def delete_job(job_id: Text, session: Write, service: ServiceHere, later: BackgroundTasks) -> None:
    """Forget a job that has ended, with its events, log and answers; what it published stays."""
    gone = jobs.delete(session, job_id)
    logs, answers = f"logs/{job_id}.txt", f"{PREDICTIONS.folder}/{job_id}"
    prefixes = [answers, f"{checkpoints.FOLDER}/{job_id}"]
    later.add_task(garbage.discard, service.resources, [logs, *gone], prefixes)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: Text, session: Write) -> types.Job:
    """Stop a job; harmless where it was asked before."""
    return job_view(session, jobs.cancel(session, job_id))


@router.post("/{job_id}/pause")
def pause_job(job_id: Text, session: Write) -> types.Job:
    """Let a job rest; one that runs saves a checkpoint first. Harmless when repeated."""
    return job_view(session, jobs.pause(session, job_id))


@router.post("/{job_id}/resume")
def resume_job(job_id: Text, session: Write, settings: Config) -> types.Job:
    """Queue a paused job again; it goes on where it stopped. Harmless where it is not paused."""
    usage.in_line(session)
    job = jobs.get(session, job_id, lock=True)
    if job.state == JobState.PAUSED:
        usage.check_queue(session, settings, job.owner, counted=1)
    return job_view(session, jobs.resume(session, job_id))


@router.post("/{job_id}/retry", status_code=202, response_model=types.Job)
def retry_job(job_id: Text, once: Once, session: Write, settings: Config) -> JSONResponse:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint."""

    def queue() -> Created:
        usage.check_queue(session, settings, jobs.get(session, job_id).owner)
        job = jobs.retry(session, job_id)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, "", queue)


@router.get(
    "/{job_id}/events",
    response_model=types.Page[types.Event],
    responses=text_answer({"text/event-stream": "id: 1\nevent: state\n\n"}),
)
async def list_events(
    job: ThisJob,
    read: Read,
    service: ServiceHere,
    who: Who,
    pager: Paging,
    *,
    after: Seq = 0,
    limit: Many = 100,
    accept: Accept = "",
    last_seen: LastSeen = None,
) -> Any:
    """List what happened to a job, or follow it as server-sent events.

    With `Accept: text/event-stream` the answer goes on until the job has ended; `Last-Event-ID`
    replays what was missed. Passing `progress` events carry no id.
    """
    if "text/event-stream" in accept:
        seen = _number(last_seen, after)
        return stream(service.watch, who.owner, job, seen, again=last_seen is not None)
    rows = await read(events.after, job.id, after, limit + 1)
    shown = [shaped(types.Event, row) for row in rows[:limit]]
    return pager.page(shown, len(rows) > limit, key="seq")


def _number(last_seen: str | None, after: int) -> int:
    if last_seen is None:
        return after
    if not last_seen.isdecimal():
        raise MalformedRequest("Last-Event-ID is not a number of an event", param="Last-Event-ID")
    return min(int(last_seen), 2**31 - 1)


@router.get("/{job_id}/metrics")
async def get_job_metrics(job: ThisJob, read: Read) -> types.Metrics:
    """Return the course of training: one row for each epoch so far."""
    epochs = [event.data for event in await read(events.of_kind, job.id, EventKind.EPOCH)]
    return types.Metrics.model_validate({"job": job.id, "epochs": epochs})


@router.get("/{job_id}/logs", response_class=PlainTextResponse, responses=text_answer(LOG))
def get_job_logs(job: ThisJob, storage: Store) -> StreamingResponse:
    """Return what the job's processes wrote; empty before the first one has ended."""
    key = f"logs/{job.id}.txt"
    text = storage.stream(key) if storage.exists(key) else iter(())
    return StreamingResponse(text, media_type="text/plain; charset=utf-8")
