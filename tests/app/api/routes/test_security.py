import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.routing import Mount
from starlette.testclient import TestClient

from app.api.main import create_app, serve
from core.system.settings import Settings
from tests.app.apiclient import local_client
from topwork.errors import KeyRequired

pytestmark = pytest.mark.plan
KEY = "a-long-and-random-key"
FAR = {"client": ("203.0.113.9", 4000), "base_url": "http://topwork.example"}


@pytest.fixture
def locked(settings: Settings) -> FastAPI:
    return create_app(
        settings.model_copy(update={"admin_key": SecretStr(KEY), "failed_auth_per_minute": 10**6})
    )


@pytest.fixture
def far(locked: FastAPI) -> Iterator[TestClient]:
    """A client on another machine, without the key."""
    with local_client(locked, **FAR) as client:
        yield client


def walk(routes: Iterable[Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route as the application holds it, in routers and mounts, too."""
    for route in routes:
        here = above + (getattr(route, "path", None) or "")
        router = getattr(route, "original_router", route)  # Of what was included.
        yield from walk(getattr(router, "routes", ()), here)
        for method in getattr(route, "methods", None) or ():
            yield method, here
        if isinstance(route, Mount):
            yield "GET", f"{here}/1"


def every_address(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route, documented or not, with something in place of parameters."""
    found = [(method, re.sub(r"{[\w:]+}", "1", path)) for method, path in walk(app.routes)]
    hidden = ["/", "/docs", "/docs/init.js", "/openapi.json", "/docs/swagger-ui.css", "/nowhere"]
    documented = app.openapi()["paths"].items()
    told = {(verb.upper(), re.sub(r"{\w+}", "1", path)) for path, has in documented for verb in has}
    assert len(told) > 40
    assert {("POST", "/finetune"), ("DELETE", "/models/1"), ("GET", "/metrics")} <= told
    assert told <= set(found)
    return found + [("GET", path) for path in hidden]


PUBLIC = {"/healthz", "/readyz", "/", "/assets/1"}  # The page's files hold no data.
OF_PROXIES = [
    "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
    "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Client-Cert",
    "X-Forwarded", "Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP",
    "X-Original-Forwarded-For", "X-Original-URL", "X-ProxyUser-IP", "X-Remote-IP",
    "X-Remote-Addr", "X-Remote-User", "Remote-User", "CF-Connecting-IP", "CF-Ray",
    "CF-IPCountry", "DO-Connecting-IP", "True-Client-IP", "Fastly-Client-IP", "Fly-Client-IP",
    "WL-Proxy-Client-IP", "Proxy-Client-IP", "Client-IP", "CDN-Loop", "X-Amzn-Trace-Id",
    "X-Amz-Cf-Id", "X-ARR-LOG-ID", "X-Azure-ClientIP", "X-AppEngine-User-IP",
    "X-Goog-IAP-JWT-Assertion", "X-MS-Client-Principal", "X-Envoy-External-Address",
    "Tailscale-User-Login", "Ngrok-Agent-IPs", "X-Varnish", "CloudFront-Viewer-Address",
    "Akamai-Origin-Hop", "X-Auth-Request-User", "SSL-Client-Cert",
]  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEY}x"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Host": "127.0.0.1"},
    ],
)
def test_no_route_answers_without_the_key(
    far: TestClient, locked: FastAPI, headers: dict[str, str]
) -> None:
    for method, path in every_address(locked):
        answer = far.request(method, path, headers=headers)
        if path in PUBLIC:
            assert answer.status_code != 401
        else:
            assert answer.status_code == 401, path
            assert method == "HEAD" or answer.json()["code"] == "unauthorized", path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_key_opens(far: TestClient) -> None:
    far.headers["Authorization"] = f"Bearer {KEY}"
    assert far.get("/jobs").status_code == 200
    assert far.get("/docs").status_code == 200


def test_a_key_may_hold_any_letters(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"admin_key": SecretStr("schlüssel")}))
    with local_client(app, **FAR) as client:
        headers = {b"Authorization": "Bearer schlüssel".encode()}
        assert client.get("/jobs", headers=headers).status_code == 200


def test_tricks_with_the_path_stay_outside(far: TestClient) -> None:
    for path in (
        "/healthz/../jobs", "http://topwork.example//healthz", "/healthz/", "/HEALTHZ",
        "/healthz%2f..%2fjobs",
        "/healthz;/jobs", "/healthz%3f/jobs", "/jobs/..%2fhealthz", "/%68ealthz/x",
        "/docs/../jobs", "/docs/%2e%2e/jobs", "/openapi.json/jobs",
    ):  # fmt: skip
        assert far.get(path).status_code == 401, path


@pytest.mark.parametrize(
    "host",
    [
        "x/healthz?",
        "x/healthz#",
        "healthz",
        "x/docs",
        "localhost/healthz?",
        "[::1]:80/healthz#",
    ],
)
def test_tricks_with_the_host_open_no_route(far: TestClient, locked: FastAPI, host: str) -> None:
    """CVE-2026-48710: what stands in Host must not reach the decision about the path."""
    for method, path in every_address(locked):
        if path not in PUBLIC:
            assert far.request(method, path, headers={"Host": host}).status_code == 401, path


def test_this_machine_reads_the_documentation_without_the_key(locked: FastAPI) -> None:
    with local_client(locked) as near:
        assert near.get("/docs").status_code == 200
        assert near.get("/openapi.json").status_code == 200
        assert near.get("/jobs").status_code == 401
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        assert near.get("/docs", headers=forwarded).status_code == 401


class TestWithoutKey:
    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
    def test_this_machine_is_served(self, client: TestClient, host: str) -> None:
        assert client.get("/jobs", headers={"Host": host}).status_code == 200

    def test_other_machines_are_not(self, app: FastAPI) -> None:
        with local_client(app, client=("192.168.1.5", 1)) as other:
            assert other.get("/jobs").status_code == 403
            assert other.get("/healthz").status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.168.1.5"])
    def test_a_rebound_name_is_not(self, client: TestClient, host: str) -> None:
        answer = client.get("/jobs", headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:9999"},
            {"Sec-Fetch-Site": "cross-site"},
            {"X-Forwarded-For": "127.0.0.1"},
        ],
    )
    def test_pages_of_others_change_nothing(
        self, client: TestClient, headers: dict[str, str]
    ) -> None:
        answer = client.post("/jobs/job_x/cancel", headers=headers)
        assert answer.status_code == 403

    @pytest.mark.parametrize("spelling", [str.lower, str.title, lambda it: it.replace("-", "_")])
    def test_what_a_proxy_hands_on_is_not_from_this_machine(
        self, client: TestClient, spelling: Callable[[str], str]
    ) -> None:
        for header in map(spelling, OF_PROXIES):
            answer = client.get("/docs/init.js", headers={header: "127.0.0.1"})
            assert answer.status_code == 403, header

    def test_what_programs_send_themselves_does_not_count(self, client: TestClient) -> None:
        usual = ("X-Request-Id", "X-Requested-With", "Traceparent", "Max-Forwards", "Cache-Control")
        assert client.get("/jobs", headers=dict.fromkeys(usual, "1")).status_code == 200

    def test_own_pages_may(self, client: TestClient) -> None:
        headers = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
        assert client.post("/jobs/job_x/cancel", headers=headers).status_code == 404


@pytest.mark.parametrize("path", ["/jobs", "/docs", "/nowhere", "/healthz"])
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-eval" not in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_a_request_id_is_kept_or_made(client: TestClient) -> None:
    assert (
        client.get("/jobs", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    )
    made = client.get("/jobs", headers={"X-Request-Id": "no\tgood<script>"})
    assert made.headers["X-Request-Id"].startswith("req_")
    problem = client.get("/nowhere", headers={"X-Request-Id": "mine-2"}).json()
    assert problem["request_id"] == "mine-2"


def test_a_public_address_needs_a_key(settings: Settings) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "topwork.example"):  # noqa: S104
        with pytest.raises(KeyRequired):
            serve(settings, host=host, port=0)


def test_a_mistake_is_answered_and_tells_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        message = "a secret detail"
        raise RuntimeError(message)

    monkeypatch.setattr("core.domain.jobs.page", broken)
    answer = client.get("/jobs")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "X-Request-Id" in answer.headers
