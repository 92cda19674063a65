"""HTTP to the service: keys, retries that cannot repeat an effect, paging, events."""

import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from core.system.command_names import command
from topwork.client.errors import ServiceError, Unreachable, from_response
from topwork.errors import InvalidField, RequestInFlight

RETRIES = 2
RETRIED = frozenset({429, 503})
LONGEST_PAUSE = 60.0
EVENTS_LOST_AFTER = 60.0  # Seconds without a connection before a stream is given up.
EVENTS_LONGEST_PAUSE = 5.0
MOST_DOUBLINGS = 6
NOTHING_FOLLOWS = 204

Json = dict[str, Any]


class Http:
    """JSON in, JSON out; every failure is a `TopworkError`.

    Args:
        url: Root of the service.
        key: Bearer key; empty sends none.
        timeout: Seconds for a connection and between two reads.

    Raises:
        InvalidField: No request can be made with this address or key.
    """

    def __init__(self, url: str, key: str = "", timeout: float = 60.0) -> None:
        if not key.isascii():
            raise InvalidField("The key holds a character that no HTTP header can carry.")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url.rstrip("/")
        try:
            self._client = httpx2.Client(
                base_url=self.url, headers=headers, timeout=httpx2.Timeout(timeout, connect=5.0)
            )
        except httpx2.InvalidURL as error:
            raise InvalidField(f"{url} is not the address of a service: {error}") from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Return a successful answer; retry twice where that is safe and may help.

        A POST carries an Idempotency-Key, so the service answers a repeated one from its record.

        Raises:
            TopworkError: The service refused, under the class of its code.
            Unreachable: No answer after the last try.
        """
        headers = dict(options.pop("headers", {}))
        if method == "POST":
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        for tries_left in range(RETRIES, -1, -1):
            try:
                response = self._client.request(method, path, headers=headers, **options)
            except httpx2.TransportError as lost:
                if not tries_left:
                    raise self._unreachable(lost) from lost
                time.sleep(_pause(RETRIES - tries_left))
                continue
            if response.is_success:
                return response
            error = from_response(response)
            again = response.status_code in RETRIED or isinstance(error, RequestInFlight)
            if not again or not tries_left:
                raise error
            time.sleep(_pause(RETRIES - tries_left, response.headers.get("retry-after")))
        raise Unreachable

    def json(self, method: str, path: str, **options: Any) -> Json:
        """Return the JSON object of an answer; empty for an empty one.

        Raises:
            ServiceError: Something else than Topwork answers at this address.
        """
        content = self.send(method, path, **options).content
        try:
            body = json.loads(content or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ServiceError(f"What answers at {self.url} is not Topwork.")
        return body

    def pages(self, path: str, **query: object) -> Iterator[Json]:
        """Yield the items of every page of a list."""
        params = {name: value for name, value in query.items() if value is not None}
        while True:
            page = self.json("GET", path, params=params)
            yield from page["data"]
            if not page.get("has_more"):
                return
            params["after"] = page["last_id"]

    def lines(self, path: str, **options: Any) -> Iterator[Json]:
        """Yield the objects of an NDJSON answer as they arrive."""
        try:
            with self._client.stream("GET", path, **options) as response:
                _check(response)
                yield from (json.loads(line) for line in response.iter_lines() if line)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def events(
        self, path: str, *, after: int = 0, ended: Callable[[], bool]
    ) -> Iterator[httpx2.ServerSentEvent]:
        """Yield server-sent events over as many connections as it takes.

        Args:
            path: The event stream.
            after: Number of the last event already seen.
            ended: Asked when a connection ends; True means that no event will follow.

        Raises:
            Unreachable: No connection for a minute.
        """
        seen, lost_since, pauses = str(after), None, 0
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": seen}
            try:
                with self._client.stream("GET", path, headers=headers) as response:
                    _check(response)
                    if response.status_code == NOTHING_FOLLOWS:
                        return
                    lost_since = None
                    for event in httpx2.EventSource(response):
                        seen, pauses = event.id or seen, 0
                        if event.data:
                            yield event
                if ended():
                    return
            except httpx2.SSEError as error:  # Whoever answers, it is not this service.
                raise self._unreachable(error) from error
            except (httpx2.TransportError, Unreachable) as error:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > EVENTS_LOST_AFTER:
                    raise self._unreachable(error) from error
            time.sleep(min(EVENTS_LONGEST_PAUSE, _pause(pauses)))
            pauses += 1

    def _unreachable(self, error: Exception) -> Unreachable:
        hint = f"Start it with {command('up')}, or name another one with --url or TOPWORK_URL."
        return Unreachable(f"No answer from {self.url}: {error}", hint=hint)


def _check(response: httpx2.Response) -> None:
    if not response.is_success:
        response.read()
        raise from_response(response)


def _pause(failures: int, retry_after: str | None = None) -> float:
    """Return seconds to wait: the service's own wish, else 0.5, 1, 2 ... with some jitter."""
    with contextlib.suppress(TypeError, ValueError):
        return min(LONGEST_PAUSE, float(retry_after or ""))
    return min(LONGEST_PAUSE, 0.5 * 2.0 ** min(failures, MOST_DOUBLINGS)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter.
