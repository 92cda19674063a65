"""Dependencies of routes, under short names: `Read`, `Write`, `ThisJob`, `Page`.

A session is opened for the caller whom the guard has let in, so it shows nobody else's rows.

`Write` is a session whose transaction ends when the route returns and before its answer is sent
(scope "function"), so a 202 is never sent for what was not committed. One writer at a time keeps
requests that wait for the write lock out of the threads that its holder needs, and queues writes
in order, where SQLite's own waiting is a lottery that some lose for ten seconds.
What a write has done is put into the audit log by the same transaction.
Whatever takes long (receiving, storing, reading archives) happens before `Write` is asked for.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session

from app.api.reading import Reader
from app.api.state import Service
from core.domain import audit, datasets, jobs, registry, uploads
from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import DatasetVersion, Job, ModelVersion, PartialUpload
from core.system import failpoints
from core.system.settings import Settings

WRITERS = 1


def _service(request: Request) -> Service:
    return request.app.state.service  # type: ignore[no-any-return] # Set by the lifespan.


def _resources(request: Request) -> Resources:
    return _service(request).resources


def _caller(request: Request) -> Caller:
    return request.state.caller  # type: ignore[no-any-return] # Set by the guard.


async def _read(request: Request) -> Reader:
    service = _service(request)
    return Reader(service.resources.database, _caller(request), service.readers)


def _write(request: Request) -> Iterator[Session]:
    caller = _caller(request)
    with _resources(request).database.write(caller) as session:
        yield session
        if not session.info.get("replayed"):
            route: APIRoute = request.scope["route"]
            thing = session.info.get("created") or request.scope["path"]
            status = route.status_code or 200
            audit.append(session, caller, action=route.name, thing=thing, status=status)
    failpoints.hit("api.before_answer")


async def _settings(request: Request) -> Settings:
    return _resources(request).settings


async def _storage(request: Request) -> Storage:
    return _resources(request).storage


async def _this_service(request: Request) -> Service:
    return _service(request)


async def _who(request: Request) -> Caller:
    return _caller(request)


Who = Annotated[Caller, Depends(_who)]
ServiceHere = Annotated[Service, Depends(_this_service)]
Config = Annotated[Settings, Depends(_settings)]
Store = Annotated[Storage, Depends(_storage)]
Read = Annotated[Reader, Depends(_read)]
Write = Annotated[Session, Depends(_write, scope="function", max_concurrency=WRITERS)]

Text = Annotated[str, Path(max_length=200)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


async def _this_job(job_id: Text, read: Read) -> Job:
    return await read(jobs.get, job_id)


async def _this_upload(upload_id: Text, read: Read) -> PartialUpload:
    return await read(uploads.get, upload_id)


async def _this_version(dataset_id: Text, number: Number, read: Read) -> DatasetVersion:
    return await read(datasets.version, f"{dataset_id}@{number}")


async def _this_model_version(name: Text, number: Number, read: Read) -> ModelVersion:
    return await read(registry.version, name, number)


ThisJob = Annotated[Job, Depends(_this_job)]
ThisUpload = Annotated[PartialUpload, Depends(_this_upload)]
ThisVersion = Annotated[DatasetVersion, Depends(_this_version)]
ThisModelVersion = Annotated[ModelVersion, Depends(_this_model_version)]
