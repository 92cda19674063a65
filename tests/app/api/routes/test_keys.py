"""Keys over HTTP, and what each route answers to whom."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import update
from starlette.testclient import TestClient

from app.api.authorization import scope_of
from app.api.main import create_app
from core.domain import keys
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import ApiKey
from core.system.settings import Settings
from tests.app.apiclient import Work, local_client, publish_dataset, publish_model
from topwork.kinds import Scope

ADMIN_KEY = "the-admins-own-key"
PUBLIC = {"/healthz", "/readyz"}
ANNA = Caller("anna", frozenset({"train"}))
Mint = Callable[..., str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"admin_key": SecretStr(ADMIN_KEY), "failed_auth_per_minute": 10_000}
    )


@pytest.fixture
def mint(resources: Resources) -> Mint:
    """Make a key in the database and return it."""

    def made(owner: str = "anna", *scopes: str, **options: Any) -> str:
        with resources.database.write() as session:
            return keys.create(session, owner=owner, scopes=scopes or ["train"], **options)[1]

    return made


@pytest.fixture
def opened(app: FastAPI) -> Iterator[TestClient]:
    """A client without a key."""
    with local_client(app) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def addresses(app: FastAPI, fill: dict[str, str] | None = None) -> list[tuple[str, str]]:
    """(method, path) of every route, its parameters filled in."""
    found = [
        (method.upper(), re.sub(r"{(\w+)}", lambda part: (fill or {}).get(part[1], "1"), path))
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if path not in PUBLIC
    ]
    assert len(found) > 40
    return found


def test_every_route_denies_what_is_not_a_valid_key(
    opened: TestClient, app: FastAPI, mint: Mint, resources: Resources
) -> None:
    expired = mint("anna", "admin", expires_in_days=1)
    revoked = mint("anna", "admin")
    with resources.database.write() as session:
        for key, change in ((expired, {"expires_at": 1.0}), (revoked, {"revoked_at": 1.0})):
            identity = f"key_{key.split('_')[1]}"
            session.execute(update(ApiKey).where(ApiKey.id == identity).values(**change))
    wrong = mint("anna", "admin")[:-4] + "beef"
    for headers in ({}, *map(bearer, (wrong, expired, revoked, "nonsense"))):
        for method, path in addresses(app):
            answer = opened.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path


@pytest.mark.parametrize("scope", Scope)
def test_every_route_asks_for_its_scope(
    opened: TestClient, app: FastAPI, mint: Mint, scope: str
) -> None:
    caller, key = Caller("anna", frozenset({scope})), bearer(mint("anna", scope))
    for method, path in addresses(app):
        answer = opened.request(method, path, headers=key)
        refused = answer.status_code == 403
        allowed = path == "/session" or caller.may(scope_of(method, path))
        assert refused != allowed, (method, path, answer.text)
    assert (opened.get("/nowhere", headers=key).status_code == 404) == (scope == "admin")


def test_what_each_scope_is_for() -> None:
    assert scope_of("GET", "/jobs") == "read"
    assert scope_of("POST", "/jobs/1/cancel") == "train"
    assert scope_of("POST", "/predict") == "predict"
    assert scope_of("POST", "/finetune") == "train"
    for method, path in (("GET", "/keys"), ("GET", "//jobs"), ("GET", "/new"), ("POST", "/queue")):
        assert scope_of(method, path) == "admin"


BODIES: dict[str, dict[str, Any]] = {
    "/compare": {"params": {"old": 1, "new": 1}},
    "/exports": {"json": {"format": "onnx"}},
    "/evaluations": {"json": {"dataset": "ds_01m8nq60djqyctpgd007ms@1"}},
    "/versions": {"json": {"exclude": ["0" * 64]}},
    "/answers": {"json": {"layout": {"classes": "outer"}}},
}


def body_for(method: str, path: str) -> dict[str, Any]:
    """What a request to an object must carry to get past its form."""
    if path.endswith("/compare"):
        return BODIES["/compare"]
    if method not in ("POST", "PUT", "PATCH") or path.startswith("/jobs"):
        return {}
    if "/aliases/" in path:
        return {"json": {"version": 1}}
    ends = (body for end, body in BODIES.items() if path.endswith(end))
    return next(ends, {"json": {"metadata": {}}})


def test_objects_of_others_do_not_exist(
    opened: TestClient, app: FastAPI, mint: Mint, resources: Resources, tmp_path: Path
) -> None:
    dataset = publish_dataset(resources, tmp_path / "pets", caller=ANNA)
    job = str(publish_model(resources, "pets", caller=ANNA).job_id)
    ben, anna = bearer(mint("ben", "train")), bearer(mint("anna", "train"))
    opened.put("/models/pets/aliases/production", json={"version": 1}, headers=anna)
    images = opened.get(f"/datasets/{dataset.id}/versions/1/images", headers=anna).json()
    fill = {"dataset_id": dataset.id, "job_id": job, "name": "pets", "file": "card.json"}
    fill |= {"alias": "production", "sha256": images["first_id"]}
    walked = [
        (method, path)
        for method, path in addresses(app, fill)
        if any(value in path for value in (dataset.id, job, "/models/pets"))
    ]
    assert len(walked) > 25
    for method, path in walked:
        answer = opened.request(method, path, headers=ben, **body_for(method, path))
        assert answer.status_code == 404, (method, path, answer.text)
    for path in (path for method, path in walked if method == "GET"):
        none = path.startswith("/predictions") or "/exports/" in path
        if none or path.endswith(("/compare", "/heatmap")):
            continue  # This job and this model have none, and no held-out images to compare on.
        for owner in (anna, bearer(ADMIN_KEY)):
            answer = opened.get(path, headers=owner, **body_for("GET", path))
            assert answer.status_code == 200, (path, answer.text)
    for path in (f"/datasets/{dataset.id}", f"/jobs/{job}", "/models/pets"):
        assert opened.get(path, headers=bearer(ADMIN_KEY)).json()["owner"] == "anna"


def test_lists_show_ones_own(
    opened: TestClient, mint: Mint, resources: Resources, tmp_path: Path
) -> None:
    publish_dataset(resources, tmp_path / "pets", caller=ANNA)
    publish_model(resources, "pets", caller=ANNA)
    ben, anna = bearer(mint("ben", "read")), bearer(mint("anna", "read"))
    for path in ("/datasets", "/models", "/jobs"):
        assert opened.get(path, headers=ben).json()["data"] == []
        assert len(opened.get(path, headers=anna).json()["data"]) == 1
        assert len(opened.get(path, headers=bearer(ADMIN_KEY)).json()["data"]) == 1
    assert opened.get("/queue", headers=ben).json()["states"] == {}


def test_nobody_trains_or_predicts_with_what_is_not_theirs(
    opened: TestClient, mint: Mint, resources: Resources, tmp_path: Path
) -> None:
    theirs = publish_dataset(resources, tmp_path / "pets", caller=ANNA)
    own = publish_dataset(resources, tmp_path / "own", caller=Caller("ben", frozenset()))
    publish_model(resources, "pets", caller=ANNA)
    ben = bearer(mint("ben", "train"))

    def ordered(**fields: Any) -> tuple[int, str | None]:
        body = {"architecture": "lenet", "dataset": own.id, "name": "mine", **fields}
        answer = opened.post("/finetune", json=body, headers=ben)
        return answer.status_code, answer.json().get("code")

    assert ordered(dataset=theirs.id) == (404, "dataset_not_found")
    assert ordered(name="pets") == (409, "name_taken")
    assert ordered(weights="model:pets") == (404, "model_not_found")
    assert ordered() == (202, None)
    body = {"architecture": "lenet", "dataset": theirs.id}
    dry = opened.post("/finetune?dry_run=true", json=body, headers=ben)
    assert (dry.status_code, dry.json()["code"]) == (404, "dataset_not_found")
    image = {"content": b"x", "headers": {**ben, "Content-Type": "image/png"}}
    answer = opened.post("/predict?model=pets", **image)  # type: ignore[arg-type] # Bytes and headers.
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def test_idempotency_keys_of_two_owners_never_meet(
    opened: TestClient, mint: Mint, resources: Resources, tmp_path: Path
) -> None:
    seen = set()
    for owner in ("anna", "ben"):
        caller = Caller(owner, frozenset())
        dataset = publish_dataset(resources, tmp_path / owner, caller=caller)
        body = {"architecture": "lenet", "dataset": dataset.id, "name": owner}
        headers = {**bearer(mint(owner, "train")), "Idempotency-Key": "k"}
        first, again = (opened.post("/finetune", json=body, headers=headers) for _ in range(2))
        assert again.headers["Idempotent-Replayed"] == "true"
        assert first.json()["id"] == again.json()["id"]
        seen.add(first.json()["id"])
    assert len(seen) == 2


def test_a_key_is_shown_once_listed_and_revoked(opened: TestClient) -> None:
    admin = bearer(ADMIN_KEY)
    body = {"owner": "anna", "scopes": ["read"], "name": "laptop", "expires_in_days": 30}
    made = opened.post("/keys", json=body, headers=admin)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    key = made.json()["key"]
    assert opened.get("/jobs", headers=bearer(key)).status_code == 200
    (listed,) = opened.get("/keys", headers=admin).json()["data"]
    assert listed.items() <= {**made.json(), "last_used_at": listed["last_used_at"]}.items()
    assert listed["last_used_at"]
    assert key.rpartition("_")[2] not in opened.get("/keys", headers=admin).text
    for _ in range(2):
        assert opened.delete(f"/keys/{listed['id']}", headers=admin).status_code == 204
    assert opened.get("/jobs", headers=bearer(key)).status_code == 401
    assert opened.delete("/keys/key_x", headers=admin).json()["code"] == "key_not_found"


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(settings: Settings, mint: Mint) -> None:
    app = create_app(settings.model_copy(update={"failed_auth_per_minute": 3}))
    right = bearer(mint())
    with local_client(app) as client:
        for _ in range(3):
            assert client.get("/jobs", headers=bearer("guess")).status_code == 401
        answer = client.get("/jobs", headers=bearer("guess"))
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_failures")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert client.get("/jobs", headers=bearer(ADMIN_KEY)).status_code == 429
        assert client.get("/jobs", headers=right).status_code == 200
        assert client.get("/jobs").status_code == 401
    with local_client(app, client=("127.0.0.2", 1)) as other:
        assert other.get("/jobs", headers=bearer(ADMIN_KEY)).status_code == 200


def test_wrong_keys_from_one_network_of_ipv6_count_together(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"failed_auth_per_minute": 3}))
    codes = []
    for place in ("1::1", "1::2", "1:ffff::3", "1::4", "2::1"):
        with local_client(app, client=(f"2001:db8:0:{place}", 1)) as client:
            codes.append(client.get("/jobs", headers=bearer("guess")).status_code)
    assert codes == [401, 401, 401, 429, 401]


def test_this_machine_needs_a_key_once_there_is_one(settings: Settings, work: Work) -> None:
    app = create_app(settings.model_copy(update={"admin_key": SecretStr("")}))
    work.submit()
    with local_client(app) as client:
        assert client.get("/jobs").json()["data"][0]["owner"] == "default"
        refused = client.post("/keys", json={"scopes": ["train"]})
        assert (refused.status_code, refused.json()["param"]) == (422, "scopes")
        made = client.post("/keys", json={"scopes": ["admin"]}).json()
        assert made["owner"] == "default"
        assert client.get("/jobs").status_code == 401
        assert client.get("/docs").status_code == 200
        headers = bearer(made["key"])
        assert client.get("/jobs", headers=headers).status_code == 200
        assert client.delete(f"/keys/{made['id']}", headers=headers).status_code == 204
        assert client.get("/jobs").status_code == 401, "a revoked key still counts"
