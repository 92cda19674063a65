# Written by .ci/client.py, a part of `make format`, from ../asynchronous/transport.py.
"""HTTP to the service: retries that cannot repeat an effect, paging, events."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from topwork.client.exchange import (
    NOTHING_FOLLOWS,
    RETRIES,
    Json,
    Shape,
    error_of,
    headers_of,
    is_worth_another_try,
    options,
    pause,
    read,
)
from topwork.errors import IntegrityError, Unreachable
from topwork.types.pages import Page

EVENTS_LOST_AFTER = 60.0  # Seconds without a connection before a stream is given up.
EVENTS_LONGEST_PAUSE = 5.0


class Http:
    """Shapes out; every failure is a `TopworkError`.

    Args:
        url: Root of the service.
        key: Bearer key; empty sends none.
        timeout: Seconds for a connection and between two reads.

    Raises:
        InvalidField: No request can be made with this address or key.
    """

    def __init__(self, url: str, key: str = "", timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(**options(url, key, timeout))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, method: str, path: str, **fields: Any) -> httpx2.Response:
        """Return a successful answer; retry twice where that is safe and may help.

        A POST carries an Idempotency-Key, so the service answers a repeated one from its record.

        Raises:
            TopworkError: The service refused, under the class of its code.
            Unreachable: No answer after the last try.
        """
        headers = headers_of(method, fields.pop("headers", {}))
        for tries_left in range(RETRIES, -1, -1):
            try:
                response = self._client.request(method, path, headers=headers, **fields)
            except httpx2.TransportError as lost:
                if not tries_left:
                    raise self._unreachable(lost) from lost
                time.sleep(pause(RETRIES - tries_left))
                continue
            if response.is_success:
                return response
            error = error_of(response)
            if not tries_left or not is_worth_another_try(response, error):
                raise error
            wish = response.headers.get("retry-after")
            time.sleep(pause(RETRIES - tries_left, wish))
        raise Unreachable

    def ask(self, shape: type[Shape], method: str, path: str, **fields: Any) -> Shape:
        """Return the answer as its shape.

        Raises:
            ServiceError: Something else than Topwork answers at this address.
        """
        response = self.send(method, path, **fields)
        return read(shape, response.content, self.url)

    def pages(self, shape: type[Shape], path: str, **query: object) -> Iterator[Shape]:
        """Yield the items of every page of a list."""
        params = {name: value for name, value in query.items() if value is not None}
        while True:
            page = self.ask(Page[Json], "GET", path, params=params)
            for item in page.data:
                yield read(shape, item, self.url)
            if not page.has_more or page.last_id is None:
                return
            params["after"] = page.last_id

    def lines(self, shape: type[Shape], path: str, **fields: Any) -> Iterator[Shape]:
        """Yield the objects of an NDJSON answer as they arrive."""
        try:
            with self._client.stream("GET", path, **fields) as response:
                _check(response)
                for line in response.iter_lines():
                    if line:
                        yield read(shape, line, self.url)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def download(self, path: str, to: Path, **fields: Any) -> None:
        """Write an answer to a file, which is there once all of it is, as it was hashed if it was.

        Raises:
            IntegrityError: What arrived is not what the service has.
            Unreachable: The connection broke off.
        """
        part, digest = to.with_name(f".{to.name}.part"), hashlib.sha256()
        try:
            with self._client.stream("GET", path, **fields) as response:
                _check(response)
                with part.open("wb") as file:
                    for piece in response.iter_bytes():
                        digest.update(piece)
                        file.write(piece)
            if response.headers.get("ETag") not in (None, f'"{digest.hexdigest()}"'):
                raise IntegrityError(f"{path} did not arrive as it is.", hint="Download it again.")
            part.replace(to)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            part.unlink(missing_ok=True)

    def events(
        self, shape: type[Shape], path: str, *, after: int, ended: Callable[[], bool]
    ) -> Iterator[Shape]:
        """Yield the data of server-sent events over as many connections as it takes.

        Args:
            shape: Of the data.
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
                            yield read(shape, event.data, self.url)
                if ended():
                    return
            except httpx2.SSEError as error:  # Whoever answers, it is not this service.
                raise self._unreachable(error) from error
            except (httpx2.TransportError, Unreachable) as error:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > EVENTS_LOST_AFTER:
                    raise self._unreachable(error) from error
            time.sleep(min(EVENTS_LONGEST_PAUSE, pause(pauses)))
            pauses += 1

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"No answer from {self.url}: {error}")


def _check(response: httpx2.Response) -> None:
    if not response.is_success:
        response.read()
        raise error_of(response)
