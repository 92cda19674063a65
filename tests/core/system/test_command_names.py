"""Commands in hints are right for how this program was started: installed, checkout, container."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.system import command_names, optional_packages
from core.system.command_names import USUAL, command, install, where
from core.system.optional_packages import TorchMissing, require_torch
from core.system.settings import Settings
from tests.installed import Installed

HOME = Path("~/.topwork").expanduser()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed") / "place")


def asked(installed: Installed, cwd: Path, code: str, **environment: str) -> str:
    done = installed.run("python", "-P", "-c", code, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def words(hint: str) -> list[str]:
    assert hint[0] == hint[-1] == "`"
    return shlex.split(hint[1:-1])


VERSION = "from core.system.command_names import command; print(command('--version'))"


@pytest.mark.parametrize("activated", [True, False])
def test_the_command_of_an_installation_calls_that_installation(
    installed: Installed,
    tmp_path: Path,
    activated: bool,  # noqa: FBT001 - a parameter of the test.
) -> None:
    path = f"{installed.bin}:{os.environ['PATH']}" if activated else "/usr/bin:/bin"
    called = words(asked(installed, tmp_path, VERSION, PATH=path))
    assert called[0] == ("topwork" if activated else str(installed.bin / "topwork"))
    done = subprocess.run(
        called, env={"PATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0.1.0\n"), done.stderr


def test_another_topwork_on_the_path_is_not_this_one(installed: Installed, tmp_path: Path) -> None:
    other = tmp_path / "topwork"
    other.write_text("#!/bin/sh\n")
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    said = asked(installed, tmp_path, VERSION, PATH=f"{tmp_path}:{installed.bin}")
    assert words(said)[0] == str(installed.bin / "topwork")


def test_without_its_script_the_module_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_names, "PROGRAM", "no-such-script")
    called = words(command("--help"))
    assert called == [sys.executable, "-P", "-m", "app.cli", "--help"]
    assert subprocess.run(called, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("places", "options"),
    [
        ({"data_dir": HOME}, []),
        ({"data_dir": Path("/srv/top work")}, ["--data-dir", "/srv/top work"]),
        ({"weights_dir": HOME / "weights"}, []),
        ({"weights_dir": Path("/srv/w")}, ["--weights-dir", "/srv/w"]),
        ({"url": "http://127.0.0.1:8000"}, []),
        ({"url": "http://gpu:8000"}, ["--url", "http://gpu:8000"]),
    ],
)
def test_a_place_is_named_where_a_new_shell_would_look_elsewhere(
    places: dict[str, Path | str], options: list[str]
) -> None:
    assert words(command("doctor", **places))[-1 - len(options) :] == ["doctor", *options]


def test_the_usual_places_are_those_of_the_settings() -> None:
    usual = Settings()
    assert Path(str(USUAL["data_dir"])).expanduser() == usual.data_dir
    assert Path(str(USUAL["weights_dir"])).expanduser() == usual.weights_dir


def test_without_torch_up_refuses_at_once_and_says_what_to_do(
    installed: Installed, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    done = installed.run("topwork", "up", "--data-dir", str(data), "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert '"code": "torch_missing"' in done.stderr
    assert not data.exists()
    plain = installed.run("topwork", "up", cwd=tmp_path, HOME=str(tmp_path))
    assert f"cannot be found by {installed.bin / 'python'}" in " ".join(plain.stderr.split())
    assert "'topwork[torch]'" in plain.stderr
    alone = installed.run("python", "-P", "-m", "worker", cwd=tmp_path, HOME=str(tmp_path))
    assert (alone.returncode, "'topwork[torch]'" in alone.stderr) == (1, True)


def test_an_installation_is_told_to_install_into_itself(
    installed: Installed, tmp_path: Path
) -> None:
    said = asked(
        installed, tmp_path, "from core.system.command_names import install; print(install('demo'))"
    )
    python = str(installed.bin / "python")
    assert words(said) == ["uv", "pip", "install", "--python", python, "topwork[demo]"]  # No pip.


def test_a_checkout_is_told_to_install_its_own_versions() -> None:
    called = words(install("torch"))
    root = Path(__file__).resolve().parents[3]
    assert called[-4:-1] == ["--constraint", f"{root}/requirements.lock", "--editable"]
    assert called[-1] == f"{root}[torch]"


def test_a_container_is_told_of_another_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_names, "IMAGE", tmp_path / "none")
    assert where() == "on the service's machine"
    monkeypatch.setattr(command_names, "IMAGE", tmp_path)
    assert where() == "in a container of the worker"
    monkeypatch.setattr(optional_packages, "find_spec", lambda _name: None)
    with pytest.raises(TorchMissing) as missing:
        require_torch()
    assert "worker-cpu" in str(missing.value.hint)
