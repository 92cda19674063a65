"""The systemd unit: what it starts exists, and it gives no more than the service needs."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.program import program
from tests.conftest import ROOT

UNIT = ROOT / "deploy" / "topwork.service"
VERIFY = shutil.which("systemd-analyze")


@pytest.fixture
def service() -> "configparser.SectionProxy":
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment]  # Names keep their case.
    unit.read(UNIT)
    return unit["Service"]


def test_the_command_takes_its_options(service: "configparser.SectionProxy") -> None:
    path, *words = shlex.split(service["ExecStart"])
    assert Path(path).name == "topwork"
    told = CliRunner().invoke(program, [words[0], "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0
    options = [word for word in words if word.startswith("--")]
    assert options
    assert all(option in told.output for option in options)


def test_it_listens_on_this_machine_alone_and_owns_one_folder(
    service: "configparser.SectionProxy",
) -> None:
    words = shlex.split(service["ExecStart"])
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--data-dir") + 1] == f"/var/lib/{service['StateDirectory']}"
    assert (service["ProtectSystem"], service["NoNewPrivileges"]) == ("strict", "yes")
    assert service["CapabilityBoundingSet"] == ""


def test_a_stop_leaves_time_for_a_checkpoint(service: "configparser.SectionProxy") -> None:
    assert service["KillMode"] == "mixed", "the supervisor tells its processes when to stop"
    assert int(service["TimeoutStopSec"]) > 10


@pytest.mark.skipif(VERIFY is None, reason="systemd is not here")
def test_systemd_reads_it(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/topwork/bin/topwork", "/bin/true"))
    assert VERIFY is not None
    run = subprocess.run([VERIFY, "verify", here], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "Unknown" not in run.stderr
