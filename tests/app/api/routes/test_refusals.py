"""What cannot be stored, or what machine and database refuse, is answered in the tree of errors."""

import base64
import errno
import tempfile
from typing import Any

import pytest
from sqlalchemy import delete, text
from starlette.testclient import TestClient

from core.store.resources import Resources
from core.store.tables import AuditHead, Dataset
from core.system.faults import OF_THE_MACHINE
from core.system.settings import Settings
from tests.app.apiclient import zipped
from tests.backends import on_postgres
from topwork.errors import InvalidField


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "sqlite":
        return settings
    return on_postgres(settings, request.getfixturevalue("postgres"))


def test_text_with_a_nul_is_the_clients_mistake(client: TestClient) -> None:
    archive = {"file": ("x.zip", zipped())}
    made = client.post("/datasets", files=archive, data={"name": "a\0b"})
    assert (made.status_code, made.json()["code"]) == (422, "invalid_field")
    named = f"filename {base64.b64encode(b'a' + bytes(1) + b'.zip').decode()}"
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "9", "Upload-Metadata": named}
    begun = client.post("/uploads", headers=tus)
    assert begun.status_code == 400, begun.text


def test_no_row_takes_a_nul_whoever_adds_it(resources: Resources) -> None:
    with pytest.raises(InvalidField), resources.database.write() as session:
        session.add(Dataset(name="a\0b"))
    with resources.database.write() as session:
        session.add(Dataset(id="ds_1", name="fine"))
    with pytest.raises(InvalidField), resources.database.write() as session:
        session.get_one(Dataset, "ds_1").name = "a\0b"


def test_no_name_commands_a_terminal(client: TestClient) -> None:
    files = {"file": ("x.zip", zipped())}
    for name in ("\x1b]0;owned\x07", "two\nlines", "\u202egpj.exe", "\x9b31m"):
        assert client.post("/datasets", files=files, data={"name": name}).status_code == 422
        assert client.post("/keys", json={"scopes": ["admin"], "name": name}).status_code == 422


def test_a_database_that_only_reads_is_unavailable(
    client: TestClient, resources: Resources, settings: Settings
) -> None:
    if not settings.database_url.startswith("postgresql"):
        pytest.skip("SQLite's files belong to this user, whom nothing keeps from writing")
    with resources.database.engine.begin() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    try:
        client.app.state.service.resources.database.close()  # type: ignore[attr-defined]
        answer = client.post("/keys", json={"scopes": ["admin"]})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    finally:
        with resources.database.engine.begin() as connection:
            connection.execute(text("SET TRANSACTION READ WRITE"))
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))


def test_an_audit_log_without_its_head_is_told(client: TestClient, resources: Resources) -> None:
    with resources.database.write() as session:
        session.execute(delete(AuditHead))
    answer = client.post("/keys", json={"scopes": ["admin"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "audit_broken")


def test_what_the_machine_refuses_is_no_mistake_of_ours(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    def refused(*_args: Any, **_options: Any) -> None:
        raise OSError(numbers[-1], "refused")

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    for number in sorted({*OF_THE_MACHINE, errno.ENOSPC, errno.EDQUOT}):
        numbers.append(number)
        answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
        full = number in (errno.ENOSPC, errno.EDQUOT)
        assert answer.status_code == (507 if full else 503), (number, answer.text)
    ready = client.get("/readyz")
    assert ready.json()["checks"]["storage"] == "OSError", ready.text
