import time

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from core.store import postgres as patience
from core.store.db import AWAY, Database
from tests.chaos.proxy import Proxy


def test_a_silent_network_is_an_error_and_the_next_try_connects_anew(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.5)
    parsed = make_url(postgres)
    socket = f"{parsed.query['host']}/.s.PGSQL.{parsed.port or 5432}"
    with Proxy(socket) as proxy:
        through = parsed.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
        database = Database(through.render_as_string(hide_password=False))
        with database.read() as session:
            session.execute(text("SELECT 1"))
            proxy.mode = "deaf"
            asked_at = time.monotonic()
            with pytest.raises(AWAY):
                session.execute(text("SELECT 2"))
        assert time.monotonic() - asked_at < 10
        proxy.mode = "pass"
        with database.read() as session:
            assert session.execute(text("SELECT 3")).scalar_one() == 3
        database.close()
