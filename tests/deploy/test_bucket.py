"""The bucket of docker-compose.s3.yml: its key signs, and its script starts a server with it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from core.store.object_store import Storage, StorageUnavailable
from core.system.settings import Settings
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
SERVER = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["s3"]
FILE = yaml.safe_load((ROOT / "docker-compose.s3.yml").read_text())["services"]
KEY = "a/b+c $x 'd' ="


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a prefix in the bucket that the service's script starts, to which AWS_* leads."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "bin").mkdir()
    words = f"#!/bin/sh\nexec {sys.executable} -P {ROOT}/deploy/test/bucket.py"
    (tmp_path / "bin/versitygw").write_text(f'{words} "$@"\n')
    (tmp_path / "bin/versitygw").chmod(0o755)
    (tmp_path / "key").write_text(f"{KEY}\n")
    (script,) = SERVER["command"]
    script = script.replace("$$", "$").replace(
        "/run/secrets/storage_secret_key", str(tmp_path / "key")
    )
    script = script.replace("/data", str(tmp_path / "data")).replace("7070", str(port))
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "ROOT_ACCESS_KEY_ID": "topwork",
        "VGW_REGION": "us-east-1",
    }
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "topwork")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with subprocess.Popen(
        [*SERVER["entrypoint"], script], env=environment, stderr=subprocess.DEVNULL
    ) as server:
        wait_for(lambda: listens(port))
        yield "s3://topwork/objects"
        server.terminate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_key_of_a_file_signs_in_place_of_the_environments(bucket: str, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, storage_url=bucket, storage_secret_key_file=tmp_path / "key"
    )
    storage = Storage(settings.storage_url, settings.storage_secret_key)
    big = tmp_path / "big"
    big.write_bytes(os.urandom(12_000_000))  # Goes up in parts.
    storage.put_hashed("a/big", big)
    assert storage.get_range("a/big", 11_000_000, 10) == big.read_bytes()[11_000_000:11_000_010]
    assert list(storage.list("a")) == ["a/big"]
    storage.delete("a/big")
    assert not storage.exists("a/big")
    for wrong in (SecretStr("wrong"), None):
        with pytest.raises(StorageUnavailable, match="403"):
            Storage(bucket, wrong).put_bytes("a", b"")


def test_all_that_use_objects_are_told_where_the_bucket_is() -> None:
    assert FILE.keys() == {"api", "worker", "predictor"}
    for service in FILE.values():
        assert service["environment"].keys() == {
            "TOPWORK_STORAGE_URL",
            "TOPWORK_STORAGE_SECRET_KEY_FILE",
            "AWS_ENDPOINT",
            "AWS_ACCESS_KEY_ID",
            "AWS_REGION",
        }
        # Without the profile there is none here, and the bucket is elsewhere.
        assert service["depends_on"]["s3"] == {"condition": "service_healthy", "required": False}
        assert service["secrets"] == SERVER["secrets"] == ["storage_secret_key"]
        for theirs, ours in (
            ("ROOT_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
            ("VGW_REGION", "AWS_REGION"),
        ):
            assert SERVER["environment"][theirs] == service["environment"][ours]
