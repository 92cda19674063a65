"""Authentication: the admin key, a made key or none; guessing is slowed down."""

import asyncio
import hmac
import math
import time
from collections import OrderedDict, deque
from dataclasses import replace

import anyio
import anyio.to_thread
import structlog

from app.asgi.rate_limit import subscriber
from core.domain import keys
from core.store.db import AWAY, Database
from core.store.row_access import ADMIN, Caller
from core.system.settings import Settings
from topwork.errors import TooManyFailures, Unauthorized

log = structlog.get_logger()
MINUTE = 60.0
MOST_ADDRESSES = 10_000
LOOKUPS = 8
"""At once, so that strangers with keys that look real cannot fill every thread."""


class Failures:
    """Counts wrong keys by address, for a minute and for so many addresses only.

    Args:
        most: Failures within a minute after which an address has to wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return seconds until this address may fail again; 0 when it may now."""
        times = self._times.get(address)
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + MINUTE - time.monotonic())

    def note(self, address: str) -> None:
        """Count one failure."""
        self._times.setdefault(address, deque(maxlen=self._most)).append(time.monotonic())
        self._times.move_to_end(address)
        if len(self._times) > MOST_ADDRESSES:
            self._times.popitem(last=False)


class Credentials:
    """Tells callers by their keys.

    Args:
        settings: Where the admin key and the number of tolerated failures are.
    """

    def __init__(self, settings: Settings) -> None:
        self._admin_key = settings.admin_key.get_secret_value().encode()
        self._failures = Failures(settings.failed_auth_per_minute)
        self._lookups = anyio.CapacityLimiter(LOOKUPS)
        self._exist = bool(self._admin_key)
        self._look: asyncio.Task[bool] | None = None
        self._next_look: asyncio.Task[bool] | None = None
        self._noting: set[str] = set()

    async def exist(self, database: Database) -> bool:
        """Return whether there is, or ever was, a key; until then this machine needs none.

        Whoever asks while the database is being looked at shares the next look with all the others
        who wait; the present one might miss a key that has been made since it began.
        """
        if self._exist:
            return True
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_after(self._look, database))
        return await asyncio.shield(self._next_look)

    async def _look_after(self, present: asyncio.Task[bool] | None, database: Database) -> bool:
        if present is not None and not present.done():
            await asyncio.wait([present])
        self._look, self._next_look = self._next_look, None
        self._exist = await anyio.to_thread.run_sync(_any, database, limiter=self._lookups)
        return self._exist

    async def identify(self, database: Database, address: str, key: str) -> Caller:
        """Return who sends a key.

        An address that has failed too often waits, but a minted key is looked up even then: it
        cannot be guessed, and behind one proxy all clients share an address.

        Raises:
            Unauthorized: No key, or one that is unknown, expired or revoked.
            TooManyFailures: It has failed too often; `retry_after` says how long to wait.
        """
        if not key:
            raise Unauthorized
        origin = subscriber(address)
        wait = self._failures.wait(origin)
        if not wait and self._is_admins(key):
            return replace(ADMIN, key="admin_key")
        if keys.FORMAT.fullmatch(key):
            known = await anyio.to_thread.run_sync(
                self._look_up, database, key, limiter=self._lookups
            )
            if known is not None:
                return known
        if wait:
            raise TooManyFailures(retry_after=math.ceil(wait))
        self._failures.note(origin)
        raise Unauthorized

    def _is_admins(self, key: str) -> bool:
        same = hmac.compare_digest(key.encode("latin-1"), self._admin_key)
        return same and bool(self._admin_key)

    def _look_up(self, database: Database, key: str) -> Caller | None:
        with database.read() as session:
            known = keys.check(session, key)
        if known is None:
            return None
        if known.use_is_old and known.id not in self._noting:
            self._note_use(database, known.id)
        return known.caller

    def _note_use(self, database: Database, key_id: str) -> None:
        self._noting.add(key_id)
        try:
            with database.write() as session:
                keys.note_use(session, key_id)
        except AWAY:
            log.warning("key.use_not_noted", key_id=key_id)  # Not worth failing a request for.
        finally:
            self._noting.discard(key_id)


def _any(database: Database) -> bool:
    with database.read() as session:
        return keys.any_exists(session)
