import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.api.main import create_app
from app.api.uploads import multipart_archive
from core.ingest.containers import sniff
from core.ingest.tars import Tar
from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.tables import Dataset, Job
from core.system.settings import Settings
from tests.app.apiclient import local_client, png, two_classes, zipped
from tests.disks import FULL
from tests.waiting import wait_for

EDGE = b"boundary"


def rows(resources: Resources, table: type) -> list[Any]:
    with resources.database.read() as session:
        return list(session.scalars(select(table)))


def clean(resources: Resources) -> bool:
    """Nothing of an upload is left."""
    folder = resources.settings.data_dir / "tmp"
    left = list(folder.iterdir()) if folder.is_dir() else []
    return not left and not resources.storage.list("uploads") and not rows(resources, Job)


def stored(resources: Resources) -> bytes:
    (dataset,) = rows(resources, Dataset)
    return resources.storage.get_bytes(dataset.upload)


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("Pets of ours.ZIP", zipped()),
        ("pets.tar.gz", tar_of(two_classes(), "w:gz")),
        ("pets.tar", tar_of(two_classes())),
        ("no suffix", zipped()),
        ("photo.jpg", tar_of(two_classes())),
        ("pets.7z", b"7z\xbc\xaf\x27\x1c" + b"x" * 600),
        ("empty.zip", b""),
    ],
)
def test_an_archive_is_kept_as_it_came(
    client: TestClient, resources: Resources, name: str, data: bytes
) -> None:
    answer = client.post("/datasets", files={"file": (name, data)})
    assert answer.status_code == 202, answer.text
    assert answer.json()["kind"] == "ingest"
    assert stored(resources) == data
    (job,) = rows(resources, Job)
    assert job.config["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("sent", "name"),
    [("Pets of ours.zip", "Pets of ours"), ("a/b/c.tar.gz", "c"), (".zip", "images"), ("x", "x")],
)
def test_a_dataset_is_named_after_its_archive(
    client: TestClient, resources: Resources, sent: str, name: str
) -> None:
    client.post("/datasets", files={"file": (sent, zipped())})
    (dataset,) = rows(resources, Dataset)
    assert dataset.name == name


def test_many_files_are_named_after_their_root(client: TestClient, resources: Resources) -> None:
    parts = [("file", (f"flowers/{name}", data)) for name, data in two_classes().items()]
    client.post("/datasets", files=parts)
    (dataset,) = rows(resources, Dataset)
    assert dataset.name == "flowers"


def test_fields_beside_the_files(client: TestClient, resources: Resources) -> None:
    fields = {
        "name": "  my Pets ",
        "metadata": json.dumps({"a": 1}),
        "split": json.dumps({"val": 0.1, "test": 0.1, "seed": 3}),
    }
    answer = client.post("/datasets", files={"file": ("x.zip", zipped())}, data=fields)
    assert answer.status_code == 202, answer.text
    (dataset,) = rows(resources, Dataset)
    assert (dataset.name, dataset.user_metadata) == ("  my Pets ", {"a": 1})
    (job,) = rows(resources, Job)
    split = {"val": 0.1, "test": 0.1, "group_by": "near_duplicates", "seed": 3}
    split |= {"group_pattern": None, "group_column": None}
    sha256 = hashlib.sha256(zipped()).hexdigest()
    assert job.config == {"split": split, "bytes": len(zipped()), "sha256": sha256}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"nam": "x"}, "nam"),
        ({"name": ""}, "name"),
        ({"split": '{"val": 2}'}, "split.val"),
        ({"split": '{"vall": 0.2}'}, "split.vall"),
        ({"metadata": "[]"}, "metadata"),
        ({"metadata": "{"}, None),
    ],
)
def test_a_wrong_field_is_named_and_nothing_stays(
    client: TestClient, resources: Resources, fields: dict[str, str], param: str | None
) -> None:
    answer = client.post("/datasets", files={"file": ("x.zip", zipped())}, data=fields)
    assert answer.status_code in (400, 422)
    assert answer.json()["param"] == param
    assert clean(resources)


def test_names_of_files_are_names_of_members_only(client: TestClient, resources: Resources) -> None:
    names = ["../../evil.png", "/etc/evil.png", "C:\\evil.png", "a/./b.png", "c" * 400 + "/d.png"]
    parts = [("file", (name, png())) for name in names]
    assert client.post("/datasets", files=parts).status_code == 202
    with tarfile.open(fileobj=io.BytesIO(stored(resources))) as tar:
        assert len(tar.getnames()) == len(names)
    assert not list(resources.settings.data_dir.parent.rglob("*evil*"))


def test_a_thousand_files_and_more(client: TestClient, resources: Resources) -> None:
    parts = [("file", (f"cat/{number}.png", b"%d" % number)) for number in range(1500)]
    answer = client.post("/datasets", files=parts)
    assert answer.status_code == 202, answer.text
    with tarfile.open(fileobj=io.BytesIO(stored(resources))) as tar:
        assert len(tar.getnames()) == 1500
    (job,) = rows(resources, Job)
    assert job.config["sha256"] is None


def test_an_archive_that_others_follow_is_not_what_is_stored(
    client: TestClient, resources: Resources
) -> None:
    parts = [("file", ("b.zip", zipped())), ("file", ("p/cat/1.png", png()))]
    assert client.post("/datasets", files=parts).status_code == 202
    (job,) = rows(resources, Job)
    assert job.config["sha256"] is None


def test_an_archive_among_files_is_a_file_like_them(client: TestClient) -> None:
    others = [("file", (f"p/{name}", data)) for name, data in two_classes().items()]
    archive = ("file", ("b.zip", zipped()))
    for parts in ([archive, *others], [*others, archive], [others[0], archive, *others[1:]]):
        order = {"config": json.dumps({"architecture": "lenet"})}
        answer = client.post("/finetune?dry_run=true", files=parts, data=order)
        assert answer.status_code == 200, answer.text
        assert answer.json()["classes"] == ["cat", "dog"]
        assert sum(answer.json()["skipped"].values()) == 1


def test_limits(settings: Settings, resources: Resources) -> None:
    small = settings.model_copy(update={"max_archive_bytes": 4000, "max_upload_files": 3})
    with local_client(create_app(small)) as client:
        large = client.post("/datasets", files={"file": ("x.zip", b"PK\x03\x04" + b"x" * 5000)})
        many = client.post("/datasets", files=[("file", (f"{n}.png", b"x")) for n in range(4)])
        field = client.post(
            "/datasets", files={"file": ("x.zip", b"")}, data={"name": "n" * 70_000}
        )
        fields = client.post(
            "/datasets", files={"file": ("x.zip", b"")}, data={f"f{n}": "" for n in range(40)}
        )
    assert (large.status_code, large.json()["code"]) == (413, "archive_too_large")
    assert (many.status_code, many.json()["code"]) == (413, "archive_too_large")
    assert field.status_code == 413
    assert fields.status_code == 400
    assert clean(resources)


@pytest.mark.parametrize("path", ["/datasets", "/finetune?dry_run=true", "/predict"])
@pytest.mark.parametrize(
    "words", ['name="file"; filename=""', 'name="file"', 'name="file"; filename="a"']
)
def test_every_part_counts_whatever_is_in_it(settings: Settings, path: str, words: str) -> None:
    """A part takes the parser some 0.1 ms, so that those without content are not for free."""
    small = settings.model_copy(update={"max_upload_files": 3, "max_predict_images": 3})
    empty = part(f"Content-Disposition: form-data; {words}".encode(), b"")
    headers = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}
    with local_client(create_app(small)) as client:
        answer = client.post(path, content=chunked(empty * 100 + END), headers=headers)
    assert answer.status_code in (400, 413), answer.text
    assert "more than" in answer.text or "twice" in answer.text or "at most" in answer.text


def chunked(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


def part(headers: bytes, data: bytes) -> bytes:
    return b"--" + EDGE + b"\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="x.zip"'
END = b"--" + EDGE + b"--\r\n"


def test_a_nul_in_a_name_of_a_form_is_kept_for_ingestion_to_refuse(
    client: TestClient, resources: Resources, tmp_path: Path
) -> None:
    named = b'Content-Disposition: form-data; name="file"; filename="cat/x\0.png"'
    headers = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}
    body = part(named, png()) + part(named.replace(b"\0", b"y"), png()) + END
    answer = client.post("/datasets", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    (key,) = resources.storage.list("uploads")
    (tmp_path / "kept").write_bytes(resources.storage.get_bytes(key))
    with (tmp_path / "kept").open("rb") as file:
        members = list(Tar(file, sniff, most=None).members())
    assert [member.name for member in members] == ["cat/x\0.png", "cat/xy.png"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        part(FILE, b"PK\x03\x04"),  # The closing boundary is missing.
        part(FILE, b"PK\x03\x04")[:-10],
        part(b"Content-Type: text/plain", b"x") + END,
        part(b'Content-Disposition: form-data; filename="x.zip"', b"x") + END,
        part(b'Content-Disposition: form-data; name="name"', b"\xff\xfe") + part(FILE, b"") + END,
        part(b'Content-Disposition: form-data; name="name"', b"a") * 2 + part(FILE, b"") + END,
        part(b'Content-Disposition: form-data; name="name"', b"a") + END,
        part(b'Content-Disposition: form-data; name="file"; filename=""', b"") + END,
        part(b"X: " + b"x" * 20_000, b"x") + END,
        part(b"\r\n".join([b"X: 1"] * 100), b"x") + END,
    ],
)
def test_a_broken_form_is_refused(client: TestClient, resources: Resources, body: bytes) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}
    answer = client.post("/datasets", content=chunked(body), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert clean(resources)


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "b" * 5000])
def test_a_boundary_is_needed(client: TestClient, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    assert client.post("/datasets", content=b"x", headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("size", "turn", "portion"), [(1, 1.0, 100), (3, 1.0, 1), (100, 1.0, 7), (1000, 0.0, 7)]
)
def test_parts_may_come_in_any_pieces(
    client: TestClient,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    turn: float,
    portion: int,
) -> None:
    monkeypatch.setattr("app.asgi.multipart.BATCH", size)
    monkeypatch.setattr("app.asgi.multipart.TURN_SECONDS", turn)
    monkeypatch.setattr("app.asgi.multipart.SLICE", portion)
    archive = zipped({"cat/1.png": png(), "dog/2.png": png()})
    body = part(FILE, archive) + END
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    headers = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}
    answer = client.post("/datasets", content=chunked(*pieces), headers=headers)
    assert answer.status_code == 202, answer.text
    assert stored(resources) == archive


def test_a_full_disk_is_507(
    client: TestClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _folder: FULL)
    answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert int(answer.headers["Retry-After"]) > 0
    assert clean(resources)


def test_a_disk_that_fills_meanwhile_is_507(
    client: TestClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multipart_archive._Raw, "end", full)
    answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert clean(resources)


def test_storage_that_is_away_is_503(
    client: TestClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.store.object_store import StorageUnavailable  # noqa: PLC0415 - next to its use.

    def away(*_args: Any) -> None:
        raise StorageUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put_file", away)
        answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert clean(resources)


def test_a_database_that_stays_locked_is_503_and_nothing_stays(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.store.db.BUSY_TIMEOUT_MS", 50)
    with local_client(create_app(settings)) as client, resources.database.write() as session:
        session.execute(select(Job).limit(1))  # Takes the write lock.
        answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert clean(resources)


def test_what_a_killed_process_left_is_removed(settings: Settings, resources: Resources) -> None:
    used, lock = multipart_archive._folder(settings)
    abandoned, new = (used.with_name(f"upload-{name}") for name in ("abandoned", "new"))
    for folder in (abandoned, new):
        folder.mkdir()
        (folder / "archive").write_bytes(b"x")
    for folder in (used, abandoned):
        os.utime(folder, (1, 1))
    with local_client(create_app(settings.model_copy(update={"sweep_seconds": 0.05}))):
        wait_for(lambda: not abandoned.exists())
    assert used.exists()
    assert new.exists()
    multipart_archive._remove(used, lock)
    os.utime(new, (1, 1))
    assert multipart_archive.remove_abandoned(settings) == 1
    assert clean(resources)
