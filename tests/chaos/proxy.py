"""A TCP proxy in front of a server that can be slow, cut, deaf or drip, as networks are."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

from sqlalchemy.engine import make_url

LATENCY, DRIP = 2.0, 1.0  # Seconds before each piece; seconds for each byte.


class Proxy:
    """Listens on loopback while in a `with` statement; `mode` may change at any time.

    pass, slow (each piece 2 s later), drip (1 byte a second), cut (every connection closed, new
    ones too), deaf (connections stay open, nothing comes through them, then or ever). `upstream`, a
    unix socket or a port on loopback, may change as well; new connections go there.
    """

    def __init__(self, upstream: str | int) -> None:
        self.mode, self.upstream = "pass", upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, sock=self._listener)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(5)
        return self

    def __exit__(self, *_exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self._listener.close()

    async def _stop(self) -> None:
        mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            where = self.upstream
            up_reader, up_writer = await (
                asyncio.open_unix_connection(where)
                if isinstance(where, str)
                else asyncio.open_connection("127.0.0.1", where)
            )
            pumps = [self._pump(reader, up_writer), self._pump(up_reader, writer)]
            tasks = [asyncio.create_task(pump) for pump in [*pumps, self._cut()]]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                for one in (writer, up_writer):
                    one.close()

    async def _cut(self) -> None:
        while self.mode != "cut":  # noqa: ASYNC110 - another thread sets it.
            await asyncio.sleep(0.02)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        deaf = False
        while data := await source.read(65536):
            deaf = deaf or self.mode == "deaf"
            if deaf:
                continue
            if self.mode == "slow":
                await asyncio.sleep(LATENCY)
            for piece in (bytes([one]) for one in data) if self.mode == "drip" else (data,):
                sink.write(piece)
                await sink.drain()
                if self.mode == "drip":
                    await asyncio.sleep(DRIP)


@contextlib.contextmanager
def before_postgres(url: str) -> Iterator[tuple[Proxy, str]]:
    """Stand before the server whose socket a URL names; yield also the URL that leads here."""
    parsed = make_url(url)
    with Proxy(f"{parsed.query['host']}/.s.PGSQL.{parsed.port or 5432}") as proxy:
        here = parsed.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
        yield proxy, here.render_as_string(hide_password=False)
