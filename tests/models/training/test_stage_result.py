"""A finished head that lies on disk is taken over whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from core.system.run_dir import RunDir
from models.training import checkpoint, stage_result
from models.training.resume import Progress
from models.training.stage_result import StageResult

KEY = {"spec": "this run", "machine": {}}
HANDED = StageResult(Progress(epoch=3), (0.1, "chosen"), 5, "worth it")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    run = RunDir(tmp_path)
    stage_result.save(run.checkpoint, KEY, HANDED, nn.Linear(4, 2))
    yield run
    run.events.close()


def test_what_was_handed_over_comes_back(run: RunDir) -> None:
    saved, _ = checkpoint.read(run.checkpoint / stage_result.FILE)
    layer = nn.Linear(4, 2)
    assert stage_result.load(run, run.checkpoint, KEY, layer) == HANDED
    assert all(torch.equal(value, saved[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "layer"),
    [
        ("another run", nn.Linear(4, 2)),
        ("this run", nn.Linear(5, 2)),
        ("this run", nn.Linear(4, 2, bias=False)),
        ("this run", nn.Conv2d(4, 2, 1)),
    ],
)
def test_a_head_that_does_not_fit_is_forgotten(run: RunDir, spec: str, layer: nn.Module) -> None:
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert stage_result.load(run, run.checkpoint, {"spec": spec, "machine": {}}, layer) is None
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not (run.checkpoint / stage_result.FILE).exists()
