"""Uploads in pieces: the tus protocol, what survives, who may, and what uses them up."""

import base64
import hashlib
import os
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.api.main import create_app
from app.api.uploads import partial_file, resumable
from app.asgi.multipart import BATCH
from core.domain import uploads
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import Dataset, PartialUpload
from core.system import failpoints
from core.system.settings import Settings
from tests.app.apiclient import local_client, zipped
from tests.disks import FULL
from topwork.errors import UploadLocked

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
ARCHIVE = zipped()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def create(client: TestClient, length: int = len(ARCHIVE), /, **headers: str) -> str:
    headers = {**TUS, "Upload-Length": str(length), **headers}
    answer = client.post("/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return answer.headers["Location"]


def send(client: TestClient, path: str, offset: int, data: Any, **headers: str) -> Any:
    headers = {**PIECE, "Upload-Offset": str(offset), **headers}
    return client.patch(path, content=data, headers=headers)


def offset(client: TestClient, path: str) -> int:
    answer = client.head(path, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return int(answer.headers["Upload-Offset"])


def sha256(data: bytes) -> str:
    return "sha256 " + base64.b64encode(hashlib.sha256(data).digest()).decode()


def left(resources: Resources) -> list[str]:
    folder = resources.settings.data_dir / "uploads"
    return sorted(path.name for path in folder.glob("*")) + sorted(
        path.name for path in folder.glob(".*")
    )


def test_options_tell_what_is_spoken(client: TestClient, settings: Settings) -> None:
    answer = client.options("/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
    assert {"creation", "checksum", "expiration", "termination"} == set(
        answer.headers["Tus-Extension"].split(",")
    )
    assert answer.headers["Tus-Max-Size"] == str(settings.max_archive_bytes)
    assert "sha256" in answer.headers["Tus-Checksum-Algorithm"]


@pytest.mark.parametrize(
    ("path", "method"),
    [("/uploads", "post"), ("/uploads/{upload_id}", "patch"), ("/uploads/{upload_id}", "delete")],
)
def test_the_document_tells_what_a_changing_request_must_carry(
    client: TestClient, path: str, method: str
) -> None:
    operation = client.get("/openapi.json").json()["paths"][path][method]
    must = {one["name"]: one["schema"] for one in operation["parameters"] if one["required"]}
    must.pop("upload_id", None)
    if method == "patch":
        assert list(operation["requestBody"]["content"]) == [PIECE["Content-Type"]]
        assert {"type": "integer", "minimum": 0}.items() <= must.pop("Upload-Offset").items()
    assert must == {"Tus-Resumable": {"type": "string", "enum": ["1.0.0"]}}


@pytest.mark.parametrize("way", ["/datasets", "/finetune"])
def test_an_archive_in_pieces_becomes_a_dataset(
    client: TestClient, resources: Resources, way: str
) -> None:
    path = create(
        client, **{"Upload-Metadata": f"filename {encoded('My pets.zip')},x {encoded('y')}"}
    )
    head = client.head(path, headers=TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (
        "0",
        str(len(ARCHIVE)),
    )
    assert "filename" in head.headers["Upload-Metadata"]
    assert "GMT" in head.headers["Upload-Expires"]
    assert head.content == b""
    middle = len(ARCHIVE) // 2
    first = send(client, path, 0, ARCHIVE[:middle])
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, str(middle))
    assert offset(client, path) == middle
    wanted: dict[str, Any] = {"upload": path.rpartition("/")[2]}
    if way == "/finetune":
        wanted["architecture"] = "lenet"
    early = client.post(way, json=wanted)
    assert (early.status_code, early.json()["code"]) == (409, "upload_incomplete")
    assert send(client, path, middle, ARCHIVE[middle:]).status_code == 204
    if way == "/finetune":
        plan = client.post("/finetune?dry_run=true", json=wanted)
        assert plan.json()["classes"] == ["cat", "dog"], plan.text
    once = {"Idempotency-Key": "a"}
    answer = client.post(way, json=wanted, headers=once)
    assert answer.status_code == 202, answer.text
    with resources.database.read() as session:
        (dataset,) = session.scalars(select(Dataset))
    assert dataset.name == "My pets"
    assert resources.storage.get_bytes(str(dataset.upload)) == ARCHIVE
    assert left(resources) == []
    again = client.post(way, json=wanted, headers=once)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (answer.json(), "true")
    used = client.post(way, json=wanted)
    assert (used.status_code, used.json()["code"]) == (404, "upload_not_found")
    assert len(resources.storage.list("uploads")) == 1


def test_fields_beside_an_upload(client: TestClient, resources: Resources) -> None:
    upload = create(client, 0).rpartition("/")[2]
    fields = {"name": "n", "metadata": {"a": 1}, "split": {"val": 0.1, "test": 0.1, "seed": 3}}
    wrong = client.post("/datasets", json={"upload": upload, "nam": "x"})
    assert (wrong.status_code, wrong.json()["param"]) == (422, "nam")
    assert client.post("/datasets", json={"upload": upload, **fields}).status_code == 202
    with resources.database.read() as session:
        (dataset,) = session.scalars(select(Dataset))
    assert (dataset.name, dataset.user_metadata) == ("n", {"a": 1})


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Upload-Offset": "1"}, 409, "upload_offset_mismatch"),
        ({"Upload-Offset": "x"}, 409, "upload_offset_mismatch"),
        ({"Content-Type": "application/zip"}, 415, "unsupported_media_type"),
        ({"Tus-Resumable": "0.2.1"}, 412, "precondition_failed"),
        ({"Upload-Checksum": "sha256 AAAA"}, 460, "checksum_mismatch"),
        ({"Upload-Checksum": "crc32 AAAA"}, 400, "malformed_request"),
        ({"Upload-Checksum": "sha256 ?"}, 400, "malformed_request"),
    ],
)
def test_a_wrong_piece_changes_nothing(
    client: TestClient, resources: Resources, headers: dict[str, str], status: int, code: str
) -> None:
    path = create(client)
    answer = send(client, path, 0, ARCHIVE[:50], **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert offset(client, path) == 0
    assert len(left(resources)) == 1
    assert send(client, path, 0, ARCHIVE, **{"Upload-Checksum": sha256(ARCHIVE)}).status_code == 204


@pytest.mark.parametrize("announced", [True, False])
def test_more_than_the_upload_has_left_is_413(client: TestClient, announced: bool) -> None:  # noqa: FBT001
    path = create(client, 10)
    body = b"x" * 11 if announced else iter([b"x" * 6, b"x" * 5])
    answer = send(client, path, 0, body)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert offset(client, path) <= 10


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "-1"}, 422),
        ({"Upload-Length": "many"}, 422),
        ({"Upload-Length": str(2**61)}, 413),
        ({"Upload-Length": "5", "Upload-Metadata": "filename ?"}, 400),
        ({"Upload-Length": "5", "Upload-Metadata": "x" * 5000}, 400),
    ],
)
def test_a_wrong_announcement(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/uploads", headers={**TUS, **headers}).status_code == status


def test_an_announcement_is_repeatable(client: TestClient) -> None:
    headers = {"Idempotency-Key": "a"}
    assert create(client, 5, **headers) == create(client, 5, **headers)
    assert len(client.get("/uploads").json()["data"]) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_killed_process_leaves_what_was_proved(settings: Settings, announced: bool) -> None:  # noqa: FBT001
    path = partial_file.path_of(settings, "up_1")
    partial_file.begin(path)
    with partial_file.held(path) as piece:
        piece.write(b"abc")
        piece.keep()
    with partial_file.held(path) as piece:
        if announced:
            piece.announce_checksum()
        piece.write(b"de")  # And then it is killed.
    with partial_file.held(path) as piece:
        assert piece.offset == (3 if announced else 5)
    assert path.read_bytes() == (b"abc" if announced else b"abcde")
    assert [one.name for one in path.parent.iterdir()] == ["up_1"]


def test_what_a_full_disk_broke_off_counts_once(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(2 * BATCH)
    path = create(client, 2 * BATCH)
    # The batch is there when the disk is found full, and there is room again a moment later.
    orders = failpoints._orders("upload.written=ENOSPC")
    monkeypatch.setattr(failpoints, "_active", orders)
    answer = send(client, path, 0, content[:BATCH])
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert offset(client, path) == BATCH
    assert send(client, path, BATCH, content[BATCH:]).status_code == 204
    assert partial_file.path_of(settings, path.rpartition("/")[2]).read_bytes() == content


def test_one_request_at_a_time(client: TestClient, settings: Settings) -> None:
    path = create(client)
    with partial_file.held(partial_file.path_of(settings, path.rpartition("/")[2])):
        for answer in (send(client, path, 0, b"x"), client.get(path)):
            assert (answer.status_code, answer.json()["code"]) == (423, "upload_locked")
        with pytest.raises(UploadLocked):
            resumable.offset(settings, path.rpartition("/")[2])
    assert offset(client, path) == 0


def test_an_upload_that_is_not_wanted_goes(client: TestClient, resources: Resources) -> None:
    path = create(client)
    send(client, path, 0, ARCHIVE)
    assert client.delete(path, headers=TUS).status_code == 204
    assert client.head(path, headers=TUS).status_code == 404
    assert send(client, path, 0, b"x").status_code == 404
    assert left(resources) == []


def test_limits(settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    small = settings.model_copy(update={"max_open_uploads": 2, "max_archive_bytes": 100})
    with local_client(create_app(small)) as client:
        for _ in range(2):
            create(client, 100)
        third = client.post("/uploads", headers={**TUS, "Upload-Length": "1"})
        large = client.post("/uploads", headers={**TUS, "Upload-Length": "101"})
    assert (third.status_code, third.json()["code"]) == (429, "too_many_uploads")
    assert third.headers["Retry-After"]
    assert (large.status_code, large.json()["code"]) == (413, "archive_too_large")
    monkeypatch.setattr(os, "statvfs", lambda _folder: FULL)
    with local_client(create_app(settings)) as client:
        full = client.post("/uploads", headers={**TUS, "Upload-Length": "1"})
    assert (full.status_code, full.json()["code"]) == (507, "disk_full")
    assert len(left(resources)) == 2


def test_what_is_announced_needs_room_beside_what_is_open(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "core.system.disk.require", lambda _folder, coming, _reserve: asked.append(coming)
    )
    path = create(client, 1000)
    send(client, path, 0, b"x" * 400)
    create(client, 50)
    assert asked == [1000, 650]


def test_an_upload_that_stands_still_reserves_no_room(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "core.system.disk.require", lambda _folder, coming, _reserve: asked.append(coming)
    )
    still = partial_file.path_of(settings, create(client, 1000).rpartition("/")[2])
    lately = still.stat().st_mtime - partial_file.LIVELY_SECONDS
    os.utime(still, (lately, lately))
    create(client, 50)
    assert asked == [1000, 50]


def test_expired_and_stray_uploads_are_removed(resources: Resources) -> None:
    settings = resources.settings

    def begin(hours: float) -> PartialUpload:
        short = settings.model_copy(update={"upload_hours": hours})
        with resources.database.write() as session:
            return resumable.begin(session, short, length=9, filename=None, metadata="")

    kept, over = begin(1.0), begin(1e-9)
    stray, mark = (settings.data_dir / "uploads" / name for name in ("up_x", "up_x.unproved"))
    new = settings.data_dir / "uploads" / "up_y"
    for path in (stray, mark, new):
        path.touch()
    for row in (kept, over):
        os.utime(partial_file.path_of(settings, row.id), (1, 1))
    for path in (stray, mark):
        os.utime(path, (1, 1))
    resumable.tidy(resources)
    assert left(resources) == sorted([kept.id, "up_y"])
    with resources.database.read() as session:
        assert list(uploads.lengths(session)) == [kept.id]


def test_nobody_else_sees_or_touches_an_upload(resources: Resources, settings: Settings) -> None:
    from core.domain import keys  # noqa: PLC0415 - next to its use.

    with resources.database.write() as session:
        held = {
            owner: keys.create(session, owner=owner, scopes=scopes)[1]
            for owner, scopes in {"root": ["admin"], "anna": ["train"], "ben": ["train"]}.items()
        }
    with local_client(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {held['anna']}"
        path = create(client)
        send(client, path, 0, ARCHIVE)
        client.headers["Authorization"] = f"Bearer {held['ben']}"
        assert client.get("/uploads").json()["data"] == []
        for answer in (
            client.get(path),
            send(client, path, 0, b"x"),
            client.delete(path, headers=TUS),
            client.post("/datasets", json={"upload": path.rpartition("/")[2]}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")
        client.headers["Authorization"] = f"Bearer {held['anna']}"
        answer = client.post("/datasets", json={"upload": path.rpartition("/")[2]})
        assert answer.status_code == 202
    with resources.database.read(Caller("anna", frozenset({"read"}))) as session:
        assert len(list(session.scalars(select(Dataset)))) == 1


def test_ids_lead_nowhere_else(client: TestClient, settings: Settings) -> None:
    (settings.data_dir / "uploads").mkdir()
    (settings.data_dir / "uploads" / "x").write_bytes(b"secret")
    for upload_id in ("x", "..%2Ftopwork.db", "%2Fetc%2Fpasswd"):
        assert client.head(f"/uploads/{upload_id}", headers=TUS).status_code == 404
        assert send(client, f"/uploads/{upload_id}", 6, b"y").status_code == 404
