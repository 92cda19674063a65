"""Postgres connections that end when they get no answer; psycopg itself would wait for ever.

A server that dies says so. A firewall that forgets a connection, or a machine that loses power,
says nothing, and every thread that asked would wait until the worker is started again.
"""

from typing import Any

import psycopg
from sqlalchemy import Engine, event

ANSWER_SECONDS = 30.0  # Longer than any statement of a running service takes.
CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "client_encoding": "utf8",  # Whatever the server has, text is text and never bytes.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Impatient(psycopg.Connection[Any]):
    """A connection that is closed when an answer takes longer than `ANSWER_SECONDS`."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: There was none; the connection is closed.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, ANSWER_SECONDS)
        except psycopg.OperationalError as error:
            if "timeout" in type(error).__name__.lower():
                self.pgconn.finish()
            raise


def never_wait_forever(engine: Engine, *, patient: bool) -> None:
    """Have an engine notice dead connections, and give up slow answers unless it is `patient`."""
    kind = psycopg.Connection if patient else Impatient

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, words: Any, options: dict[str, Any]) -> Any:
        return kind.connect(*words, **CONNECT | options)
