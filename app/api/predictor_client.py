"""The api's way to the predictor: pooled HTTP that waits for a predictor which starts."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self

import anyio
import httpx2
import structlog

from app.asgi.request_id import HEADER
from core.system.settings import Settings
from topwork.errors import PredictorUnavailable

TIMEOUT = httpx2.Timeout(60.0, connect=2.0)
LOOK_SECONDS = 0.1  # Between two looks for a predictor that starts.
AWAY = (httpx2.ConnectError, httpx2.ConnectTimeout)
LOST = (httpx2.NetworkError, httpx2.RemoteProtocolError)


class PredictorClient:
    """Speaks to the predictor over its socket or its URL; used on the event loop only.

    Args:
        settings: Where it listens, and how long a prediction waits for it.
    """

    def __init__(self, settings: Settings) -> None:
        socket = None if settings.predictor_url else str(settings.predictor_socket)
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=socket),
            base_url=settings.predictor_url or "http://predictor",
            timeout=TIMEOUT,
            event_hooks={"request": [_name]},
            trust_env=False,
        )
        self._patience = settings.predict_wait_seconds
        self._looking = anyio.Lock()

    async def __aenter__(self) -> Self:
        """Use it."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def get(self, path: str, timeout: float) -> httpx2.Response:  # noqa: ASYNC109 - httpx's own.
        """Ask once, without waiting for a predictor that is away."""
        return await self._http.get(path, timeout=timeout)

    async def predict(
        self, headers: Mapping[str, str], body: Callable[[], AsyncIterator[bytes]]
    ) -> httpx2.Response:
        """Send an order, as soon as there is a predictor that takes it.

        One that ends meanwhile is asked once more after its restart: to predict twice does no harm,
        and a request that ends it each time must not do so for ever.

        Args:
            headers: The order's.
            body: Makes the images' bytes, once for each time that they are sent.

        Raises:
            PredictorUnavailable: There was none for `predict_wait_seconds`.
            httpx2.TransportError: It ended twice under this order, or did not answer in time.
        """
        until, lost = time.monotonic() + self._patience, False
        while True:
            try:
                return await self._http.post("/predict", headers=dict(headers), content=body())
            except AWAY:
                await self._started(until)
            except LOST:
                if lost:
                    raise
                until, lost = time.monotonic() + self._patience, True
                # While a killed process is torn down, its socket still takes connections.
                await self._started(until)

    async def _started(self, until: float) -> None:
        """Wait until the predictor answers; one request looks for all that wait."""
        try:
            with anyio.fail_after(max(0.0, until - time.monotonic())):
                async with self._looking:
                    while not await self._answers():  # noqa: ASYNC110 - no event tells of it.
                        await anyio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise PredictorUnavailable from None

    async def _answers(self) -> bool:
        try:
            return (await self._http.get("/healthz", timeout=TIMEOUT.connect)).is_success
        except httpx2.TransportError:
            return False


async def _name(request: httpx2.Request) -> None:
    """Pass the id of the request that is being served on to the predictor."""
    given = structlog.contextvars.get_contextvars().get("request_id")
    if given is not None:
        request.headers[HEADER] = given
