"""Two real processes train as one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.system.run_dir import CRASHED, DONE, FAILED, STOPPED
from models.networks import zoo
from tests.models.running import go, read
from tests.models.staging import events, request, stage, start, striped, stripes
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() == 1, reason="where GPUs are counted, two are needed"
)
NUMBERS = {"epochs": 4, "batch_size": 7, "optimizer": "sgd", "learning_rate": 0.01}
CORES = {"OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of stripes: 47 images to train on, 15 to validate."""
    sizes = {"train": 24, "val": 8}
    images = [
        stripes(split, name, number)
        for split, size in sizes.items()
        for name in ("across", "down")
        for number in range(size - (name == "down"))
    ]
    return stage(tmp_path_factory.mktemp("stripes") / "data", images)


def lenet(folder: Path, dataset: Path, **config: Any) -> Path:
    config = {"hyperparameters": NUMBERS, "early_stopping": None, **config}
    return request(folder, dataset, architecture="lenet", weights="none", **config)


def others(leader: int) -> list[int]:
    """Return the processes that rank 0 has started."""
    children = Path(f"/proc/{leader}/task/{leader}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def test_two_processes_learn_what_one_learns(tmp_path: Path, dataset: Path) -> None:
    """Batches of 6 and 7 images: their parts differ in size, and so must their weight."""
    one, two = lenet(tmp_path / "1", dataset), lenet(tmp_path / "2", dataset, devices=2)
    assert go(one) == DONE
    assert start(two, **CORES).wait(120) == DONE, (two / "log.txt").read_text()
    curves = [read(run_dir, "history.json")["epochs"] for run_dir in (one, two)]
    assert [record["epoch"] for record in curves[1]] == [1, 2, 3, 4]
    for single, double in zip(*curves, strict=True):
        assert double.pop("stage") == single.pop("stage")
        assert double == pytest.approx(single, rel=1e-5, abs=1e-5)
    weights = [load_file(run_dir / "result/weights.safetensors") for run_dir in (one, two)]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-5)
    assert [event["epoch"] for event in events(two, "epoch")] == [1, 2, 3, 4]
    phases = [event["phase"] for event in events(two, "phase")]
    assert phases == ["preparing", "training", "evaluating", "calibrating", "publishing"]
    plan = read(two, "card.json")["plan"]
    assert plan["devices"]["value"] == 2
    assert "3 to 4 of the 7 images" in plan["devices"]["reason"]
    assert not (two / "ranks").exists()


def test_two_processes_follow_one_through_head_and_full(tmp_path: Path) -> None:
    """Kept statistics and no dropout: nothing in this network depends on who shares a batch."""
    data = striped(tmp_path / "data", train=20, val=12)
    torch.manual_seed(0)
    model = zoo.build("resnet18").train()
    with torch.no_grad():
        for _ in range(10):
            model(torch.randn(8, 3, 32, 32))
    save_file(model.state_dict(), tmp_path / "resnet18.safetensors")
    numbers: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 17,
        "image_size": 32,
        "weight_decay": 0.01,
    }
    numbers |= {"optimizer": "sgd", "learning_rate": 3e-4}
    asked: dict[str, Any] = {
        "hyperparameters": numbers,
        "selection_metric": "loss",
        "precision": "fp32",
    }
    # Time enough, so that no busy machine leaves the second stage out.
    asked |= {"limits": {"max_minutes": 600}, "early_stopping": None}
    folders = [tmp_path / "1", tmp_path / "2"]
    for devices, run_dir in enumerate(folders, 1):
        request(run_dir, data, tmp_path, architecture="resnet18", devices=devices, **asked)
    assert go(folders[0]) == DONE
    assert start(folders[1], **CORES).wait(240) == DONE, (folders[1] / "log.txt").read_text()
    curves = [read(run_dir, "history.json")["epochs"] for run_dir in folders]
    for single, double in zip(*curves, strict=True):
        assert double.pop("stage") == single.pop("stage")
        assert double == pytest.approx(single, rel=1e-5, abs=1e-5)
    weights = [load_file(run_dir / "result/weights.safetensors") for run_dir in folders]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-5), name
    told = events(folders[1], "epoch")
    assert [event["stage"] for event in told] == ["head", "head", "full", "full"]
    assert read(folders[1], "card.json")["plan"]["devices"]["value"] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="then GPUs are counted")
def test_more_devices_than_cores_is_a_failure_with_a_name(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run_dir = lenet(tmp_path / "run", dataset, devices=3)
    assert go(run_dir) == FAILED
    error = json.loads((run_dir / "error.json").read_text())
    assert (error["code"], error["param"]) == ("invalid_field", "devices")
    assert error["hint"] == "Ask for at most 2, or leave it out."


RANK_0 = """
import os, signal, subprocess, sys
from pathlib import Path
from core.system.run_dir import RunDir
from models.training.distributed import Group

def ends(number, watched):
    group = Group(RunDir(Path(sys.argv[1])), 2)
    rank = subprocess.Popen(["sleep", "1000"])
    group._others.append(rank)
    if number:
        rank.send_signal(number)
        os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOWAIT)
    if watched:
        group._watch(rank, 1)
    group.__exit__(RuntimeError, RuntimeError("Connection closed by peer"), None)
    os._exit(0)

for number in (signal.SIGKILL, signal.SIGSEGV, 0):
    for watched in (True, False) if number else (False,):
        rank_0 = os.fork()
        if not rank_0:
            ends(number, watched)
        print(os.waitstatus_to_exitcode(os.waitpid(rank_0, 0)[1]))
"""


def test_rank_0_dies_as_another_rank_was_killed(tmp_path: Path) -> None:
    """SIGKILL is what the kernel ends a process with for memory; the worker must recognise it.

    It may be seen by the thread that watches, or later, when the line to that rank has broken. A
    rank that goes on is killed by rank 0: that says nothing about why rank 0 failed.
    """
    told = subprocess.check_output([sys.executable, "-c", RANK_0, str(tmp_path)], text=True)
    killed = -signal.SIGKILL
    assert [int(code) for code in told.split()] == [killed, killed, CRASHED, 0, 0]


@pytest.mark.chaos
@pytest.mark.nightly
def test_a_killed_rank_costs_nothing_but_time(tmp_path: Path, dataset: Path) -> None:
    long = {"hyperparameters": {**NUMBERS, "epochs": 60}, "devices": 2}
    straight, broken = (lenet(tmp_path / name, dataset, **long) for name in ("a", "b"))
    assert start(straight, **CORES).wait(120) == DONE
    for number, wanted in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, STOPPED)):
        seen = len(events(broken, "epoch"))
        leader = start(broken, **CORES)
        wait_for(lambda seen=seen: len(events(broken, "epoch")) > seen + 3, timeout=120)
        (other,) = others(leader.pid)
        os.kill(other if number == signal.SIGKILL else leader.pid, number)
        assert leader.wait(20) == wanted
        assert not Path(f"/proc/{other}").exists()
    assert start(broken, **CORES).wait(120) == DONE
    assert read(broken, "card.json")["files"] == read(straight, "card.json")["files"]
    assert read(broken, "history.json") == read(straight, "history.json")
    assert [event["epoch"] for event in events(broken, "epoch")] == list(range(1, 61))


@pytest.mark.chaos
def test_ranks_do_not_outlive_their_leader(tmp_path: Path, dataset: Path) -> None:
    long = {"hyperparameters": {**NUMBERS, "epochs": 1000}, "devices": 2}
    run_dir = lenet(tmp_path / "run", dataset, **long)
    leader = start(run_dir, **CORES)
    wait_for(lambda: events(run_dir, "epoch"), timeout=120)
    (other,) = others(leader.pid)
    leader.kill()
    assert leader.wait(20) == -signal.SIGKILL
    wait_for(lambda: not Path(f"/proc/{other}").exists(), timeout=10)
