"""Idempotency-Key: a repeated creating POST gets the answer of the first one, for 24 hours.

The key's row is written in the transaction of what it stands for, so there is never one without
the other; a request that fails leaves no trace and may be repeated with the same key. Keys of
different owners never meet.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError as DuplicateRow
from sqlalchemy.orm import Session

from app.api.deps import Who
from core.store.db import db_now
from core.store.row_access import owner_of
from core.store.tables import IdempotencyKey
from topwork.errors import IdempotencyConflict, RequestInFlight

REPLAYED = "Idempotent-Replayed"
KEPT_SECONDS = 24 * 3600.0
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Makes repeating this request harmless for 24 hours.",
    ),
]


@dataclass(frozen=True)
class Created:
    """The answer to a creating POST."""

    body: dict[str, Any]
    location: str
    status: int = 202
    headers: dict[str, str] = field(default_factory=dict)

    def response(self, *, replayed: bool = False) -> JSONResponse:
        """Return it as an HTTP answer."""
        headers = {"Location": self.location, **self.headers}
        if self.status == 202:  # noqa: PLR2004 - accepted, so look again later.
            headers["Retry-After"] = "1"
        if replayed:
            headers[REPLAYED] = "true"
        return JSONResponse(self.body, status_code=self.status, headers=headers)


class OncePerKey:
    """Does something once for each key.

    Args:
        key: From the header; None does it every time.
        scope: What else a request must share to be the same one.
    """

    def __init__(self, key: str | None, scope: str) -> None:
        self._key = key
        self._scope = scope

    def __call__(
        self, session: Session, fingerprint: str, create: Callable[[], Created]
    ) -> JSONResponse:
        """Return what `create` returns, or what it returned to the first request of this key.

        Raises:
            IdempotencyConflict: The key came with another request.
            RequestInFlight: Another process is answering the first request.
        """
        if self._key is None:
            created = create()
            session.info["created"] = created.location
            return created.response()
        digest = hashlib.sha256(f"{self._scope}\0{fingerprint}".encode()).hexdigest()
        expired = IdempotencyKey.created_at < db_now() - KEPT_SECONDS
        session.execute(delete(IdempotencyKey).where(expired))
        own = f"{owner_of(session)}/{self._key}"
        known = session.get(IdempotencyKey, own)
        if known is not None:
            session.info["replayed"] = True
            return _replay(known, digest)
        row = IdempotencyKey(key=own, request_hash=digest)
        session.add(row)
        try:
            session.flush()
        except DuplicateRow:
            raise RequestInFlight from None
        created = create()
        row.status, row.body = created.status, created.body
        row.headers = {"Location": created.location, **created.headers}
        session.info["created"] = created.location
        return created.response()


def _replay(known: IdempotencyKey, digest: str) -> JSONResponse:
    if known.request_hash != digest:
        raise IdempotencyConflict
    headers = dict(known.headers or {})
    location = headers.pop("Location", "")
    created = Created(known.body or {}, location, known.status or 202, headers)
    return created.response(replayed=True)


async def _once(request: Request, who: Who, key: Key = None) -> AsyncIterator[OncePerKey]:
    # A coroutine, so that looking and adding happen without another request in between.
    in_flight: set[str] = request.app.state.in_flight
    own = f"{who.owner}/{key}"
    if key is not None:
        if own in in_flight:
            raise RequestInFlight
        in_flight.add(own)
    try:
        yield OncePerKey(key, f"{request.method} {request.url.path}?{request.url.query}")
    finally:
        in_flight.discard(own)


Once = Annotated[OncePerKey, Depends(_once, scope="function")]
