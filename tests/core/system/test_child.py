"""A Python process loads nothing from the folder in which somebody happened to start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.system.child import absolute, environment, python, reader, which
from tests.foreign import Foreign

LOOKS = "import sys, json, core.system.ids; print(sys.flags.safe_path, sys.flags.inspect)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    return Foreign(tmp_path_factory.mktemp("foreign") / "folder")


@pytest.fixture
def foreign(folder: Foreign) -> Foreign:
    folder.forget()
    return folder


def said(*words: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    child = python(*words, env=env)
    done = subprocess.run(
        child.command, env=child.env, cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_folder_would_be_looked_into(foreign: Foreign) -> None:
    """Without this the tests below could not fail."""
    for words in (["-c", "import json"], ["-m", "core.store.migrate"]):
        subprocess.run([sys.executable, *words], cwd=foreign.folder, check=False)
        assert foreign.loaded()
        foreign.forget()


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONUSERBASE", "PYTHONHOME"])
@pytest.mark.parametrize("value", ["", ":", ".", "lib", "~/x"])
def test_no_variable_leads_to_the_current_folder(foreign: Foreign, name: str, value: str) -> None:
    assert said("-c", LOOKS, cwd=foreign.folder, env={**os.environ, name: value}) == "True 0"
    assert foreign.loaded() == set()


def test_what_an_interactive_session_would_run_is_not_run(foreign: Foreign) -> None:
    startup = foreign.folder / "json.py"
    given = {"PYTHONSTARTUP": str(startup), "PYTHONINSPECT": "1"}
    assert said("-c", LOOKS, cwd=foreign.folder, env=os.environ | given) == "True 0"
    assert foreign.loaded() == set()


def test_processes_that_a_library_starts_are_as_safe(foreign: Foreign) -> None:
    inner = "[sys.executable, '-m', 'core.system.ids']"
    code = f"import subprocess, sys; subprocess.run({inner}, check=True)"
    said("-c", code, cwd=foreign.folder)
    assert foreign.loaded() == set()


def test_a_developers_own_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('mine')")
    env = {**os.environ, "PYTHONPATH": f":{tmp_path}:lib"}
    assert said("-c", "import mine", cwd=Path("/"), env=env) == "mine"
    assert python("-c", "", env=env).env["PYTHONPATH"] == str(tmp_path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        (":", ""),
        ("::/a::", "/a"),
        ("/a:b:./c:../d:/e", "/a:/e"),
        ("/a;b", "/a;b"),
        ("~/lib", ""),
    ],
)
def test_only_absolute_folders_stay(given: str, kept: str) -> None:
    assert absolute(given) == kept


def test_the_linkers_folders_may_stand_behind_semicolons() -> None:
    given = {"LD_LIBRARY_PATH": "/opt/cuda/lib64;;lib:$ORIGIN/../lib:"}
    assert environment(given)["LD_LIBRARY_PATH"] == "/opt/cuda/lib64:$ORIGIN/../lib"
    assert "LD_LIBRARY_PATH" not in environment({"LD_LIBRARY_PATH": ":"})


def test_what_reads_strangers_files_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "TOPWORK_ADMIN_KEY AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN PGPASSWORD DATABASE_URL"
    names += " GITHUB_TOKEN HF_TOKEN MINIO_ROOT_PASSWORD OPENAI_API_KEY api_key REDISCLI_AUTHSECRET"
    for name in names.split():
        monkeypatch.setenv(name, "hidden")
    for name in ("CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "KEYBOARD"):
        monkeypatch.setenv(name, "seen")
    child = reader("-c", "import json, os; print(json.dumps(dict(os.environ)))", threads=3)
    told = subprocess.run(child.command, env=child.env, capture_output=True, check=True).stdout
    seen = json.loads(told)
    assert "hidden" not in seen.values()
    assert list(seen.values()).count("seen") == 3
    assert (seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"]) == ("3", "1")


def test_threads_that_wait_sleep_unless_the_owner_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert reader().env["GOMP_SPINCOUNT"] == "0"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert reader().env["GOMP_SPINCOUNT"] == "7"


def test_a_program_is_not_looked_for_in_the_current_folder(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign.folder)
    for path in ("", ".", ":.:"):
        monkeypatch.setenv("PATH", path)
        assert which("valkey-server") is None
    monkeypatch.setenv("PATH", ":/bin")
    assert which("sh") == "/bin/sh"
