"""A key that a browser keeps: who gets it, what it opens, and what it does not."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from app.api.authorization import _kept
from app.api.main import create_app
from core.domain import keys
from core.store.resources import Resources
from core.system.settings import Settings
from tests.app.apiclient import local_client
from topwork.errors import Forbidden

KEY = "schlüssel; with=odd letters"
OWN = {"Origin": "http://127.0.0.1"}


@pytest.fixture
def browser(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update={"admin_key": SecretStr(KEY)}))
    with local_client(app) as client:
        yield client


def sign_in(browser: TestClient, key: str = KEY) -> str:
    headers = {b"Authorization": b"Bearer " + key.encode(), b"Origin": b"http://127.0.0.1"}
    answer = browser.post("/session", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["Set-Cookie"]


def test_the_cookie_opens_what_the_key_opens(browser: TestClient) -> None:
    assert browser.get("/jobs").status_code == 401
    sign_in(browser)
    assert browser.get("/jobs").status_code == 200
    assert browser.get("/session").json()["scopes"] == ["admin"]
    assert browser.post("/jobs/job_x/cancel", headers=OWN).status_code == 404


def test_no_script_reads_it_and_no_other_site_sends_it(browser: TestClient) -> None:
    cookie = sign_in(browser)
    assert KEY not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    browser.base_url = "https://127.0.0.1"
    browser.cookies.clear()
    assert "Secure" in sign_in_securely(browser)


def sign_in_securely(browser: TestClient) -> str:
    headers = {b"Authorization": b"Bearer " + KEY.encode()}
    return browser.post("/session", headers=headers).headers["Set-Cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://evil.example"},
        {**OWN, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_change_comes_from_the_page_alone(browser: TestClient, headers: dict[str, str]) -> None:
    sign_in(browser)
    answer = browser.post("/jobs/job_x/cancel", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_signing_out_forgets_it(browser: TestClient) -> None:
    sign_in(browser)
    assert browser.delete("/session", headers=OWN).status_code == 204
    assert browser.get("/jobs").status_code == 401


def test_a_wrong_key_is_not_kept(browser: TestClient) -> None:
    answer = browser.post("/session", headers={"Authorization": "Bearer wrong", **OWN})
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("value", ["%%%", "é", "YQ", '"', "a=b; topwork_key"])
def test_a_damaged_cookie_is_no_key(browser: TestClient, value: str) -> None:
    headers = {b"Cookie": f"topwork_key={value}".encode()}
    assert browser.get("/jobs", headers=headers).status_code == 401


def test_cookies_of_other_programs_on_this_host_change_nothing(browser: TestClient) -> None:
    sign_in(browser)
    own = f"topwork_key={browser.cookies['topwork_key']}"
    for cookie in (f'a={{"x":1}}; {own}', f"{own}; b=1,2 3", f"c; {own}"):
        assert browser.get("/jobs", headers={"Cookie": cookie}).status_code == 200, cookie


def test_a_change_to_no_host_is_refused() -> None:
    headers = Headers({"cookie": "topwork_key=YWJj", "origin": "http://x"})
    with pytest.raises(Forbidden):
        _kept({"method": "POST"}, headers)


def test_a_revoked_key_is_worthless_in_a_cookie(browser: TestClient, resources: Resources) -> None:
    with resources.database.write() as session:
        row, key = keys.create(session, owner="anna", scopes=["predict"])
        key_id = row.id
    sign_in(browser, key)
    assert browser.get("/session").json() == {
        "object": "session", "owner": "anna", "scopes": ["predict"], "key": key_id,
    }  # fmt: skip
    with resources.database.write() as session:
        keys.revoke(session, key_id)
    assert browser.get("/session").status_code == 401


def test_without_keys_this_machine_is_an_admin(client: TestClient, app: FastAPI) -> None:
    answer = client.post("/session", headers=OWN)
    assert answer.json()["key"] is None
    assert "Set-Cookie" not in answer.headers
    with local_client(app, client=("192.168.1.5", 1)) as other:
        assert other.get("/session").status_code == 403
