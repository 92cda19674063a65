"""Health, load and metrics of the service."""

import anyio.to_thread
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from app.api import metrics, queue_status
from app.api.deps import Config, Read, ServiceHere
from app.api.openapi import text_answer
from app.api.readiness import NEEDED
from app.asgi.request_body import StrictRoute
from topwork import types

SAMPLE = {"text/plain": 'topwork_jobs{kind="finetune",state="queued"} 2.0\n'}
router = APIRouter(tags=["System"], route_class=StrictRoute)


@router.get("/healthz")
async def healthz() -> types.Health:
    """Say that the process answers."""
    return types.Health()


@router.get(
    "/readyz",
    response_model=types.Readiness,
    responses={503: {"description": "A part that requests need is away."}},
)
async def readyz(service: ServiceHere) -> JSONResponse:
    """Say whether requests can be served, and how each part is; 503 where one is missing."""
    checks = await service.readiness.check()
    ready = all(checks[name] == "ok" for name in NEEDED)
    body = {"status": "ready" if ready else "unavailable", "checks": checks}
    return JSONResponse(body, 200 if ready else 503, headers={} if ready else {"Retry-After": "2"})


@router.get("/metrics", response_class=PlainTextResponse, responses=text_answer(SAMPLE))
async def get_metrics(service: ServiceHere) -> Response:
    """Return counters of the api, of the queue and of the predictor as Prometheus text."""
    text = await anyio.to_thread.run_sync(metrics.render, service)
    text += await metrics.of_predictor(service)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/queue")
async def get_queue(read: Read) -> types.Queue:
    """Return how many jobs are in which state, and how long the next one has waited."""
    return await read(queue_status.queue)


@router.get("/workers")
async def list_workers(read: Read, settings: Config) -> types.Page[types.Worker]:
    """List the workers that are there, idle or busy, with the jobs that they hold."""
    workers = await read(queue_status.workers, settings)
    return types.Page[types.Worker].of(workers, has_more=False)
