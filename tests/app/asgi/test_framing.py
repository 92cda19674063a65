"""One answer a request, whole bodies, and nothing of a body that is read as a request."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
import uvicorn

from app.asgi.connection_limits import BoundedProtocol
from app.asgi.framing import FramedProtocol
from app.asgi.server import configuration
from tests.app.asgi.exchanges import exchanges, splits
from tests.app.asgi.speaking import Echo, Line, speak_all

CORPUS = list(exchanges())
pytestmark = pytest.mark.usefixtures("_quiet")


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Thousands of refusals are not worth a line each."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


def served(protocol: type[FramedProtocol], loop: str) -> tuple[uvicorn.Config, Echo]:
    echo = Echo()
    config = configuration(echo, protocol=protocol, keep_alive=30, grace=2, loop=loop)
    config.load()
    return config, echo


@pytest.mark.parametrize(
    ("protocol", "loop"),
    [(BoundedProtocol, "auto"), (FramedProtocol, "asyncio")],
    ids=["api", "predictor"],
)
def test_each_request_has_one_answer_and_its_whole_body(
    protocol: type[FramedProtocol], loop: str
) -> None:
    assert len(CORPUS) > 500
    whole = ((exchange, 0) for exchange in CORPUS)
    assert speak_all(*served(protocol, loop), whole) == len(CORPUS)


def test_so_it_is_wherever_the_bytes_are_cut() -> None:
    assert speak_all(*served(BoundedProtocol, "auto"), splits(CORPUS, 2000)) == 2000


@pytest.mark.chaos
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("protocol", "loop"),
    [(BoundedProtocol, "auto"), (FramedProtocol, "asyncio")],
    ids=["api", "predictor"],
)
def test_so_it_is_at_every_place(protocol: type[FramedProtocol], loop: str) -> None:
    count = sum(len(exchange.data) for exchange in CORPUS)
    assert speak_all(*served(protocol, loop), splits(CORPUS)) == count


def test_the_pieces_arrive_as_they_are_cut() -> None:
    config, _ = served(BoundedProtocol, "asyncio")
    pieces: list[bytes] = []

    async def count() -> None:
        async with Line(config) as line:
            read = line.protocol.data_received

            def noted(data: bytes) -> None:
                pieces.append(bytes(data))
                read(data)

            line.protocol.data_received = noted
            await line.send(b"GET /a HT", b"TP/1.1\r\nHo")

    asyncio.run(count())
    assert pieces == [b"GET /a HT", b"TP/1.1\r\nHo"]
