"""Which build of PyTorch `make setup` takes, and that it says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def choose(environment: Path, build: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".ci/torch", str(environment)],
        env={**os.environ, "TORCH": build},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("build", ["cpu", "cu130", "default"])
def test_the_build_can_be_chosen(tmp_path: Path, build: str) -> None:
    done = choose(tmp_path, build)
    assert f"the build '{build}'" in done.stderr
    assert (f"--constraint deploy/torch/{build}.txt" in done.stdout) is (build != "default")
    assert (ROOT / f"deploy/torch/{build}.txt").is_file() is (build != "default")


def test_an_unknown_build_ends_the_setup(tmp_path: Path) -> None:
    done = choose(tmp_path, "rocm")
    assert done.returncode == 1
    assert "cpu, cu130 or default" in done.stderr


def test_without_an_answer_of_the_index_the_plain_build_is_taken(tmp_path: Path) -> None:
    """An environment whose Python neither has torch nor reaches anything."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/python").chmod(0o755)
    done = choose(tmp_path, "")
    assert done.returncode == 0
    assert "the build 'default' (" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("installed", "build"), [("0.1+cpu", "cpu"), ("0.1+cu130", "cu130"), ("0.1", "")]
)
def test_another_version_comes_in_the_build_that_is_installed(
    tmp_path: Path, installed: str, build: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(
        f'#!/bin/sh\ncase "$2" in *version*) echo {installed};; *) exit 1;; esac\n'
    )
    (tmp_path / "bin/python").chmod(0o755)
    done = choose(tmp_path, "")
    assert done.returncode == 0
    assert (f"--constraint deploy/torch/{build}.txt" in done.stdout) is bool(build)
    assert f"the build '{build or 'default'}'" in done.stderr


def test_what_is_installed_stays() -> None:
    done = choose(Path(sys.prefix), "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
