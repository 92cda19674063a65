"""Running out of memory: smaller parts of the same batch, and what happens at the smallest."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.system.run_dir import DONE, FAILED, STOPPED
from models.compute.memory import Parts, parts_of, within
from models.data.sources import Canvases, Indices
from models.networks.lenet import LeNet
from models.training import loop
from tests.models.running import go, outcome, read
from tests.models.staging import ROOT, events, request, striped
from topwork.errors import OutOfMemory

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is Linux's to enforce")
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return striped(tmp_path_factory.mktemp("stripes") / "data", train=16, val=5)


def order(folder: Path, dataset: Path) -> Path:
    numbers = {"epochs": 2, "batch_size": 16}
    return request(folder, dataset, architecture="lenet", hyperparameters=numbers)


def hold(patch: pytest.MonkeyPatch, most: int, sizes: list[int]) -> None:
    """Let LeNet run out of memory with more than so many images while it trains."""
    plain = LeNet.forward

    def forward(net: LeNet, images: Tensor) -> Tensor:
        if net.training:
            sizes.append(len(images))
            if len(images) > most:
                raise RuntimeError(NO_MEMORY)
        return plain(net, images)

    patch.setattr(LeNet, "forward", forward)


def test_a_batch_is_halved_until_it_fits_and_the_result_stays(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, tight = order(tmp_path / "straight", dataset), order(tmp_path / "tight", dataset)
    assert go(straight) == DONE
    sizes: list[int] = []
    hold(monkeypatch, 4, sizes)
    assert go(tight) == DONE
    assert sizes == [16, 8] + [4] * 16
    plan = read(tight, "card.json")["plan"]["batch_size"]
    assert plan["value"] == 16
    assert "4 parts" in plan["reason"]
    notes = [note for note in events(tight, "note") if note["code"] == "batch_halved"]
    assert [" ".join(note["message"].split()[3:11]) for note in notes] == [
        "batches of 16 images are taken in 2",
        "batches of 16 images are taken in 4",
    ]
    for one, other in zip(
        read(straight, "history.json")["epochs"], read(tight, "history.json")["epochs"], strict=True
    ):
        assert other["lr"] == one["lr"]
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)


def test_an_evaluation_that_does_not_fit_is_made_in_halves(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else memory for smaller steps would end in a trained model that nobody gets."""
    straight, tight = order(tmp_path / "straight", dataset), order(tmp_path / "tight", dataset)
    assert go(straight) == DONE
    plain, sizes = LeNet.forward, []

    def forward(net: LeNet, images: Tensor) -> Tensor:
        sizes.append(len(images))
        if not net.training and len(images) > 2:
            raise RuntimeError(NO_MEMORY)
        return plain(net, images)

    monkeypatch.setattr(LeNet, "forward", forward)
    assert go(tight) == DONE
    assert 10 in sizes
    scores = [read(one, "evaluation.json")["val"]["log_loss"] for one in (straight, tight)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)


def test_the_choice_outlives_an_interruption(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = order(tmp_path / "run", dataset)
    sizes: list[int] = []
    hold(monkeypatch, 4, sizes)
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        stage.fit.run.stopping = True

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", one_step)
        assert go(run_dir) == STOPPED
    sizes.clear()
    assert go(run_dir) == DONE
    assert set(sizes) == {4}


def test_views_that_do_not_fit_are_made_in_halves(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, tight = order(tmp_path / "straight", dataset), order(tmp_path / "tight", dataset)
    assert go(straight) == DONE
    plain, sizes = Canvases.batch, set()

    def batch(canvases: Canvases, indices: Indices, epoch: int) -> Tensor:
        sizes.add(len(indices))
        if len(indices) > 4:
            raise RuntimeError(NO_MEMORY)
        return plain(canvases, indices, epoch)

    monkeypatch.setattr(Canvases, "batch", batch)
    assert go(tight) == DONE
    assert sizes == {16, 8, 4}
    assert outcome(tight) == outcome(straight)


def test_a_single_image_that_does_not_fit_is_a_failure_with_a_name(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = order(tmp_path / "run", dataset)
    sizes: list[int] = []
    hold(monkeypatch, 0, sizes)
    assert go(run_dir) == FAILED
    assert json.loads((run_dir / "error.json").read_text())["code"] == "out_of_memory"
    assert sizes == [16, 8, 4, 2, 1]


def starve(run_dir: Path, room: int) -> int:
    """Train in a process that gets so many more MiB in a step, and no more threads."""
    command = [sys.executable, "-m", "tests.models.starved", str(run_dir), str(room)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (run_dir / "log.txt").open("wb") as log:
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False
        ).returncode


@ON_LINUX
def test_a_process_that_is_refused_memory_goes_on_with_smaller_parts(tmp_path: Path) -> None:
    """256 images take about 650 MiB on their way through NiN, 64 a quarter of that.

    The room is such that tensors of tens of megabytes do not fit: were oneDNN refused a page for
    its code, it would fail ever after, whatever is free by then (see the next test).
    """
    dataset = striped(tmp_path / "data", train=128, val=2)
    run_dir = request(
        tmp_path / "run",
        dataset,
        architecture="nin",
        precision="fp32",
        hyperparameters={"epochs": 1, "batch_size": 256},
    )
    assert starve(run_dir, 520) == DONE, (run_dir / "log.txt").read_text()
    assert "batch_halved" in {note["code"] for note in events(run_dir, "note")}
    assert re.search(r"in \d+ parts", read(run_dir, "card.json")["plan"]["batch_size"]["reason"])


@ON_LINUX
def test_no_room_for_the_code_of_a_convolution_has_the_name_of_its_cause(tmp_path: Path) -> None:
    """Freed tensors do not help oneDNN: its assembler remembers the refusal in its thread."""
    dataset = striped(tmp_path / "data", train=16, val=2)
    run_dir = request(
        tmp_path / "run",
        dataset,
        architecture="squeezenet1_1",
        weights="none",
        precision="fp32",
        hyperparameters={"epochs": 1, "batch_size": 32, "image_size": 96},
    )
    if starve(run_dir, 50) != DONE:  # As one other CPU might: its code is shorter.
        assert json.loads((run_dir / "error.json").read_text())["code"] == "out_of_memory"


def test_gradients_of_parts_add_up_to_those_of_the_batch() -> None:
    torch.manual_seed(0)
    layer, images, wanted = nn.Linear(5, 3), torch.randn(7, 5), torch.arange(7) % 3
    nn.functional.cross_entropy(layer(images), wanted).backward()
    assert layer.weight.grad is not None
    whole = layer.weight.grad.clone()
    layer.zero_grad()
    parts = parts_of(images, wanted, 4)
    assert [len(part) for part, _ in parts] == [2, 2, 2, 1]
    for part, labels in parts:
        loss = nn.functional.cross_entropy(layer(part), labels)
        (loss * (len(labels) / 7)).backward()
    torch.testing.assert_close(layer.weight.grad, whole)


def test_batch_norm_goes_back_to_what_it_knew_and_never_sees_one_image() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3)).train()
    parts = Parts(model, 1)
    parts.remember()
    model(torch.randn(8, 3) + 5)
    assert parts.halve(8) is True
    assert model[0].running_mean.abs().max() == 0  # type: ignore[operator]  # A tensor.
    parts.forget()
    assert parts.halve(8) is False  # Later nobody remembers what the statistics were.
    with pytest.raises(OutOfMemory):
        parts.halve(8)


def test_statistics_that_are_frozen_do_not_bound_the_parts() -> None:
    parts = Parts(nn.Sequential(nn.BatchNorm1d(3)).eval(), 4)
    assert parts.halve(8) is True
    assert parts.count == 8


def test_what_counts_alone_is_computed_in_halves() -> None:
    sizes = []

    def compute(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise RuntimeError(NO_MEMORY)
        return batch * 2

    assert within(compute, torch.arange(10.0)).equal(torch.arange(10.0) * 2)
    assert sizes == [10, 5, 3, 2, 5, 3, 2]


def test_other_failures_pass_through() -> None:
    def compute(_: Tensor) -> Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        within(compute, torch.zeros(4))


def test_one_image_too_many_is_out_of_memory() -> None:
    def compute(_: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(OutOfMemory):
        within(compute, torch.zeros(2))
