"""Names, pages of others, proxies: who may reach the service by which way."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.api.main import create_app
from core.system.settings import Settings
from tests.app.apiclient import local_client

KEY = {"Authorization": "Bearer long-and-random"}
FAR = {"client": ("203.0.113.9", 4000), "base_url": "http://topwork.example"}


def locked(settings: Settings, **changes: Any) -> Any:
    return create_app(
        settings.model_copy(update={"admin_key": SecretStr("long-and-random"), **changes})
    )


def test_only_trusted_names_are_answered(settings: Settings) -> None:
    app = locked(settings, trusted_hosts="topwork.example, Other.example")
    with local_client(app, **FAR) as client:
        for host, status in (
            ("topwork.example", 200),
            ("topwork.example:8443", 200),
            ("OTHER.example", 200),
            ("127.0.0.1:8000", 200),
            ("evil.example", 403),
            ("topwork.example.evil", 403),
            ("", 403),
        ):
            assert client.get("/jobs", headers={**KEY, "Host": host}).status_code == status, host
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


def test_pages_of_named_origins_may_use_the_api(settings: Settings) -> None:
    app = locked(settings, cors_origins="https://lab.example")
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    with local_client(app, **FAR) as client:
        for origin, allowed in (("https://lab.example", True), ("https://evil.example", False)):
            headers = {"Origin": origin}
            before = client.options("/finetune", headers={**headers, **ask})
            assert (before.status_code == 200) == allowed
            answer = client.get("/jobs", headers={**headers, **KEY})
            assert answer.status_code == 200
            given = answer.headers.get("access-control-allow-origin")
            assert given == (origin if allowed else None)
            assert "access-control-allow-credentials" not in answer.headers
            assert client.get("/jobs", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"cors_origins": "*"},
        {"cors_origins": "https://*.example"},
        {"cors_origins": "null"},
        {"cors_origins": "https://a.example/path"},
        {"trusted_proxies": "*"},
        {"admin_key": "changeme"},
        {"admin_key": "a"},
        {"admin_key": "nineteen-characters"},
        {"admin_key": "<your key>"},
        {"admin_key": "${TOPWORK_ADMIN_KEY}"},
    ],
)
def test_what_would_open_everything_stops_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_several_origins_and_proxies() -> None:
    given = Settings(
        cors_origins="https://a.example, http://b.example:8080",
        trusted_proxies="10.0.0.1, 10.1.0.0/16, ::1",
    )
    assert given.cors_origins
    assert given.trusted_proxies


def test_the_documentation_can_be_opened(settings: Settings) -> None:
    with local_client(locked(settings), **FAR) as client:
        assert client.get("/docs").status_code == 401
    with local_client(locked(settings, public_docs=True), **FAR) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/jobs").status_code == 401
