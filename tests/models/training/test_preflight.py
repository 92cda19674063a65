"""A run that would fill the disk is refused at its start, by name."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.system.run_dir import FAILED, RunDir
from models.planning.catalogue import get
from models.planning.disk_needs import SMALL_FILES
from models.planning.plan import Plan, resolve
from models.training import checkpoint, preflight
from tests.models.running import go
from tests.models.staging import request, striped
from topwork.errors import DiskFull
from topwork.types.training import TrainConfig


def plan(**config: Any) -> Plan:
    summary = {"classes": ["a", "b"], "counts": {"train": {"a": 9, "b": 9}}}
    asked = TrainConfig.model_validate({"architecture": "lenet", **config})
    return resolve(asked, get("lenet"), summary)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_need_covers_what_a_run_writes(tmp_path: Path, ema: float | None) -> None:
    model = nn.Linear(1000, 1000)
    copies = 2 if ema is None else 3
    moments = {f"m{n}": torch.zeros(1000, 1000) for n in range(copies)}
    for step in range(3):
        tensors = {**model.state_dict(), **moments}
        checkpoint.write(tmp_path / f"step-{step}.safetensors", tensors, {})
    for name in ("best-1", "best-2", "weights"):
        checkpoint.write(tmp_path / f"{name}.safetensors", model.state_dict(), {})
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    need = preflight.needed(nn.Sequential(model), "0", plan(ema=ema or "off"))
    assert written <= need < 1.2 * written + SMALL_FILES


def test_what_can_be_computed_again_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    (spare / "old.bin").write_bytes(b"x" * 1000)
    run = RunDir(tmp_path)
    monkeypatch.setattr(preflight, "free_bytes", lambda _: 0 if any(spare.iterdir()) else 1000)
    preflight.check(run, 1000, spare)
    assert not any(spare.iterdir())
    with pytest.raises(DiskFull, match="free"):
        preflight.check(run, 1001, spare)
    (run.checkpoint / "step-1.safetensors").write_bytes(b"x")
    preflight.check(run, 1001, spare)
    run.events.close()


def test_a_run_that_does_not_fit_is_refused_before_it_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = striped(tmp_path / "data", train=2)
    run_dir = request(tmp_path / "run", dataset, architecture="lenet", weights="none")
    monkeypatch.setattr(preflight, "free_bytes", lambda _: 1 << 20)
    assert go(run_dir) == FAILED
    assert json.loads((run_dir / "error.json").read_text())["code"] == "disk_full"
    assert not os.path.lexists(run_dir / "cache")
