"""The choice of precision and layout: measured once, remembered, and without a trace."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.system.run_dir import RunDir
from models.compute import execution, openvino
from models.compute.execution import Execution
from models.data.dataset import StagedDataset
from models.inference.network import Network
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.networks.head import Heads
from models.planning import catalogue
from models.planning.plan import resolve
from models.training.precision import benchmark, timing, workload
from models.training.precision.memory import Memory, Verdict
from models.training.precision.verdict import features_agree, losses_agree
from models.training.precision.workload import Workload
from tests.models.staging import stage, stripes
from topwork.types.training import TrainConfig

NAME = "mobilenet_v3_small"
START = Execution("cpu", "fp32", channels_last=True, threads=1, deterministic=True, reason="usual")


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedDataset]:
    images = [
        stripes(split, name, number)
        for split in ("train", "val")
        for name in ("across", "down")
        for number in range(4)
    ]
    staged = StagedDataset(stage(tmp_path / "data", images))
    yield staged
    staged.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    (tmp_path / "run").mkdir()
    run = RunDir(tmp_path / "run")
    yield run
    run.events.close()


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(workload, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(workload, "WORTH_PASSES", 0.0)
    monkeypatch.setattr(benchmark, "SHARE", 1e9)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def work_of(staged: StagedDataset, strategy: str = "full", **config: Any) -> Workload:
    architecture = catalogue.get(NAME)
    numbers = {"image_size": 64, "batch_size": 4, "epochs": 2}
    asked = {"architecture": NAME, "strategy": strategy, "hyperparameters": numbers, **config}
    summary = {"classes": staged.classes, "counts": staged.counts()}
    plan = resolve(TrainConfig.model_validate(asked), architecture, summary)
    torch.manual_seed(0)
    preprocess = Preprocess.for_architecture(NAME).at(64)
    heads, classes = Heads(architecture.head, ()), staged.classes
    model = zoo.build(NAME, 2)
    network = Network(architecture, model, heads, classes, preprocess, {"sha256": None})
    return Workload(plan, network, staged)


def bits(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("strategy", ["full", "head"])
def test_measuring_leaves_no_trace_but_the_choice(
    staged: StagedDataset, run: RunDir, strategy: str
) -> None:
    work = work_of(staged, strategy)
    model = work.network.model
    before, state = bits(model), torch.get_rng_state()
    how = benchmark.decide(START, work, run, None)
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())
    assert all(value.grad is None for value in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    unit = "one training step" if strategy == "full" else "one pass"
    assert f"{unit} of 4 images against fp32, channels_last" in how.reason
    assert ("fp32, NCHW " in how.reason) is (strategy == "full")
    if execution.has_bf16("cpu"):
        assert "bf16, channels_last " in how.reason
        apart = "bf16, grouped convolutions fp32, channels_last " in how.reason
        assert apart is (strategy == "full")  # Only their gradients are slow.


@pytest.mark.parametrize(("images", "told"), [(1, True), (4, False)])
def test_steps_too_small_for_several_threads_are_told(
    staged: StagedDataset, run: RunDir, images: int, *, told: bool
) -> None:
    numbers = {"image_size": 64, "batch_size": images, "epochs": 2}
    work = work_of(staged, precision="fp32", hyperparameters=numbers)
    how = benchmark.decide(replace(START, threads=2), work, run, None)
    assert ("too small for more than one thread" in how.reason) is told


def refuse(*_: object) -> None:
    raise AssertionError


def test_a_choice_is_kept_for_the_next_attempt_and_for_the_next_run(
    staged: StagedDataset, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, cache = work_of(staged), tmp_path / "cache"
    made: dict[str, Any] = {
        "precision": "bf16",
        "grouped_fp32": True,
        "channels_last": False,
        "reason": "fast",
    }
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "measure", lambda *_: Verdict(made, whole=True))
        first = benchmark.decide(START, work, run, cache)
    assert first == replace(START, **made)
    monkeypatch.setattr(benchmark, "measure", refuse)
    assert benchmark.decide(START, work, run, None) == first
    (tmp_path / "other").mkdir()
    other = RunDir(tmp_path / "other")
    assert benchmark.decide(START, work, other, cache) == first
    assert benchmark.decide(START, work, other, None) == first  # The cache may be gone by then.
    other.events.close()
    with pytest.raises(AssertionError):  # Other threads, other timings.
        benchmark.decide(replace(START, threads=7), work, run, cache)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": "other", "choice": {}}'])
def test_a_damaged_memory_is_no_memory(
    staged: StagedDataset, run: RunDir, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(
        benchmark,
        "measure",
        lambda *_: Verdict({"precision": "bf16", "reason": "fast"}, whole=True),
    )
    benchmark.decide(START, work_of(staged), run, None)
    [file] = run.checkpoint.glob("execution-*.json")
    file.write_text(damage)
    monkeypatch.setattr(
        benchmark,
        "measure",
        lambda *_: Verdict({"precision": "fp32", "reason": "anew"}, whole=True),
    )
    assert benchmark.decide(START, work_of(staged), run, None).reason == "anew"
    assert json.loads(file.read_text())["choice"]["reason"] == "anew"


def faked(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], wrong: str = "") -> None:
    """Let every candidate take a given time; one computes something else."""
    monkeypatch.setattr(workload, "has_bf16", lambda _: True)

    def steps(how: Execution, *_: object) -> tuple[float, Tensor]:
        loss = float("nan") if how.arithmetic == wrong else 0.7
        return seconds.get(how.arithmetic, 2.0), torch.tensor([0.7, loss])

    monkeypatch.setattr(timing, "steps", steps)


@pytest.mark.parametrize(
    ("seconds", "wrong", "chosen"),
    [
        ({"bf16, channels_last": 0.5}, "", "bf16, channels_last"),
        ({"fp32, NCHW": 0.8}, "", "fp32, NCHW"),
        ({"bf16, channels_last": 0.95}, "", "fp32, channels_last"),
        (
            {"bf16, channels_last": 0.5, "bf16, grouped convolutions fp32, channels_last": 0.6},
            "bf16, channels_last",
            "bf16, grouped convolutions fp32, channels_last",
        ),
    ],
)
def test_the_fastest_that_computes_the_same_wins(
    staged: StagedDataset,
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[str, float],
    wrong: str,
    chosen: str,
) -> None:
    faked(monkeypatch, {"fp32, channels_last": 1.0, **seconds}, wrong)
    how = benchmark.decide(START, work_of(staged), run, None)
    assert how.arithmetic == chosen
    assert ("(another result)" in how.reason) is bool(wrong)


@pytest.mark.parametrize(("share", "wanted"), [(1e9, 8), (0.0, 4)])
def test_as_many_images_are_taken_as_there_is_time_for(
    staged: StagedDataset, run: RunDir, monkeypatch: pytest.MonkeyPatch, share: float, wanted: int
) -> None:
    """What does not depend on the images would decide in a small batch."""
    monkeypatch.setattr(benchmark, "SHARE", share)
    numbers = {"image_size": 64, "batch_size": 8, "epochs": 2}
    how = benchmark.decide(START, work_of(staged, hyperparameters=numbers), run, None)
    assert f"one training step of {wanted} images against fp32, channels_last: " in how.reason
    assert ("fp32, NCHW" in how.reason) is (wanted > benchmark.LEAST_IMAGES)


@pytest.mark.parametrize("failing", ["fp32, channels_last", "bf16, channels_last"])
@pytest.mark.parametrize("words", ["can't allocate memory", "cannot compile"])
def test_what_fails_does_not_win_and_ends_no_job(
    staged: StagedDataset,
    run: RunDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    words: str,
) -> None:
    faked(monkeypatch, {"bf16, grouped convolutions fp32, channels_last": 0.5})
    steps = timing.steps

    def some(how: Execution, *rest: Any) -> tuple[float, Tensor]:
        if how.arithmetic == failing:
            raise RuntimeError(words)
        return steps(how, *rest)

    monkeypatch.setattr(timing, "steps", some)
    how = benchmark.decide(START, work_of(staged), run, tmp_path / "cache")
    plain = failing.startswith("fp32")
    assert how.arithmetic.startswith("fp32, channels_last" if plain else "bf16, grouped")
    assert "failed" in how.reason
    assert list(run.checkpoint.glob("execution-*.json"))
    # The next run may have the memory; what cannot be done will not be possible then.
    assert (tmp_path / "cache").exists() is ("memory" not in words)


def test_what_there_is_no_time_for_does_not_win_and_is_tried_by_the_next_run(
    staged: StagedDataset, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch, {"bf16, channels_last": 0.1})
    monkeypatch.setattr(benchmark, "SHARE", 0.0)
    how = benchmark.decide(START, work_of(staged), run, tmp_path / "cache")
    assert how.arithmetic == START.arithmetic
    assert "there was no time" in how.reason
    assert list(run.checkpoint.glob("execution-*.json"))
    assert benchmark.decide(START, work_of(staged), run, tmp_path / "cache") == how
    assert not (tmp_path / "cache").exists()  # Nor after another attempt of the same run.


@pytest.mark.parametrize("strategy", ["full", "head"])
def test_a_short_job_measures_nothing_and_says_so(
    staged: StagedDataset, run: RunDir, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(workload, "WORTH_SECONDS", 15.0)
    monkeypatch.setattr(workload, "WORTH_PASSES", 5.0)
    monkeypatch.setattr(benchmark, "measure", refuse)
    how = benchmark.decide(START, work_of(staged, strategy), run, None)
    assert how.arithmetic == START.arithmetic
    assert "too short to measure" in how.reason


def test_what_was_asked_for_is_not_measured(
    staged: StagedDataset, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "measure", refuse)
    asked = replace(START, precision="bf16", reason="as given")
    how = benchmark.decide(asked, work_of(staged, precision="bf16"), run, None)
    assert (how.precision, how.grouped_fp32) == ("bf16", True)


def test_without_units_for_it_bf16_is_no_candidate(
    staged: StagedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "has_bf16", lambda _: False)
    entered = work_of(staged).candidates(START)
    assert [one.arithmetic for one in entered] == ["fp32, channels_last", "fp32, NCHW"]


def test_a_compiled_trunk_is_a_candidate_where_images_are_many(
    staged: StagedDataset, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if openvino.version() is None:
        pytest.skip("the extra is not installed")
    work = work_of(staged, "head")
    assert all(one.engine == "torch" for one in work.candidates(START))
    few = Memory(START, work, tmp_path, None).key
    monkeypatch.setattr(workload, "WORTH_COMPILING", 0.0)
    assert (
        Memory(START, work, tmp_path, None).key != few
    )  # What was chosen among others is not remembered here.
    how = benchmark.decide(START, work, run, None)
    assert "fp32, OpenVINO" in how.reason
    assert "(another result)" not in how.reason


def test_compiling_counts_by_the_images_that_share_it(
    staged: StagedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes one second a look: the second pass takes 1 s, compiling 0 or 9 s more."""
    work = work_of(staged, "head")
    images, labels = torch.rand(4, 3, 64, 64), torch.zeros(4)
    for engine, first, shared in (("torch", 10.0, 0.0), ("openvino", 10.0, 9 * 4 / work.images)):
        marks = iter([0.0, first, first + 1])
        monkeypatch.setattr(timing, "now", lambda _, marks=marks: next(marks))
        how = replace(START, engine=engine)
        monkeypatch.setattr(Execution, "running", lambda _, trunk: trunk)
        trunk = torch.nn.AdaptiveAvgPool2d(1)
        took, _ = timing.passes(how, work, trunk, images, labels)
        assert took == pytest.approx(1 + shared)


def test_tolerances_are_what_they_say() -> None:
    plain = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    assert features_agree(plain * 1.02, plain)
    assert not features_agree(plain * 1.04, plain)
    assert not features_agree(torch.full_like(plain, float("nan")), plain)
    assert losses_agree(torch.tensor([0.72, 5.2]), torch.tensor([0.7, 5.0]))
    assert not losses_agree(torch.tensor([0.76, 5.0]), torch.tensor([0.7, 5.0]))
    assert not losses_agree(torch.tensor([0.7, 5.3]), torch.tensor([0.7, 5.0]))
