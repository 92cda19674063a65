"""Heads on cached features, with random trunks in place of pretrained ones."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from core.system.run_dir import DONE, STOPPED
from models.data import features
from models.data.features import Standardise, layer_of
from models.data.sources import Indices
from models.inference import artefact, eager
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.networks.head import Head, split
from models.planning.augmentation import VIEWS
from models.training import loop
from models.weights import pretrained
from tests.models.running import go, read
from tests.models.staging import events, png, request, stage, start, vouch

# A linear head, one behind two further linear layers and dropout, and a convolutional one.
NETWORKS = ["mobilenet_v3_small", "alexnet", "squeezenet1_1"]


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy red, green and blue pictures, 96 x 64 pixels."""
    rng = np.random.default_rng(0)
    images = []
    for part, size in (("train", 8), ("val", 3)):
        for channel, name in enumerate(("blue", "green", "red")):
            for _ in range(size):
                pixels = rng.uniform(0, 120, (64, 96, 3))
                pixels[:, :, 2 - channel] += 120
                images.append((part, name, png(pixels.astype(np.uint8))))
    return stage(tmp_path_factory.mktemp("colours") / "data", images)


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for ImageNet's classes, kept as if they were pretrained."""
    folder = tmp_path_factory.mktemp("weights")
    for name in (*NETWORKS, "googlenet"):
        torch.manual_seed(0)
        state = zoo.build(name).state_dict()
        save_file(state, folder / f"{name}.file.safetensors")
        pretrained.add(name, folder / f"{name}.file.safetensors", folder)
        (folder / f"{name}.file.safetensors").unlink()
    return folder


def run(folder: Path, dataset: Path, weights_dir: Path, architecture: str, **config: Any) -> Path:
    numbers = {"image_size": 64, "epochs": 8, **config.pop("hyperparameters", {})}
    return request(
        folder,
        dataset,
        weights_dir,
        architecture=architecture,
        hyperparameters=numbers,
        **config,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_head_learns_and_the_trunk_stays_bit_for_bit(
    tmp_path: Path, colours: Path, weights_dir: Path, name: str
) -> None:
    run_dir = run(tmp_path / "run", colours, weights_dir, name)
    assert go(run_dir) == DONE
    model, card = artefact.load(run_dir / "result")
    before = zoo.build(name, pretrained_state=weights_dir / f"{name}.safetensors").state_dict()
    layer = card["head"]["layers"][0]
    for key, value in model.state_dict().items():
        if not key.startswith(f"{layer}."):
            assert torch.equal(value, before[key]), key
    assert read(run_dir, "evaluation.json")["val"]["accuracy"] >= 0.8
    history = read(run_dir, "history.json")
    shown = history["best"]["val_loss"]
    # The published network, run whole on original bytes, scores what its features scored.
    assert read(run_dir, "evaluation.json")["val"]["log_loss"] == pytest.approx(shown, abs=1e-3)


def test_a_head_is_judged_as_it_will_be_served(
    tmp_path: Path, colours: Path, weights_dir: Path
) -> None:
    """With training features in bf16 the best epoch's loss is still the published network's."""
    run_dir = run(tmp_path / "run", colours, weights_dir, "mobilenet_v3_small", precision="bf16")
    assert go(run_dir) == DONE
    assert read(run_dir, "card.json")["plan"]["precision"]["value"] == "bf16"
    shown = read(run_dir, "history.json")["best"]["val_loss"]
    assert read(run_dir, "evaluation.json")["val"]["log_loss"] == pytest.approx(shown, abs=1e-5)


def test_the_decay_is_chosen_and_announced(
    tmp_path: Path, colours: Path, weights_dir: Path
) -> None:
    size = {"image_size": 64}
    run_dir = request(
        tmp_path / "run",
        colours,
        weights_dir,
        architecture="mobilenet_v3_small",
        hyperparameters=size,
    )
    assert go(run_dir) == DONE
    first, *_, second = (event["plan"]["weight_decay"] for event in events(run_dir, "plan"))
    assert first["value"] is None
    assert second["value"] > 0
    assert read(run_dir, "card.json")["plan"]["weight_decay"] == second


def test_features_are_computed_once(
    tmp_path: Path, colours: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each batch of the trunk, the run goes on and ends as if it never stopped."""
    straight = run(tmp_path / "straight", colours, weights_dir, "mobilenet_v3_small")
    monkeypatch.setattr(features, "BATCH", 12)
    assert go(straight) == DONE
    broken = run(tmp_path / "broken", colours, weights_dir, "mobilenet_v3_small")
    passes: list[int] = []
    plain = eager.forward

    def forward(trunk: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 1:  # A single blank image only asks for the shape.
            passes.append(len(batch))
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(trunk, batch)

    monkeypatch.setattr(features, "forward", forward)
    codes = [go(broken) for _ in range(4)]
    assert codes == [STOPPED] * 3 + [DONE]
    assert passes == [12, 12, 12]  # 24 training and 9 validation images, none of them twice.
    assert read(broken, "card.json")["files"] == read(straight, "card.json")["files"]


def test_views_are_cut_into_the_same_batches_wherever_a_run_was_interrupted(
    tmp_path: Path, colours: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums depend on the size of a batch, so other batches would give other last bits."""
    monkeypatch.setattr(features, "BATCH", 10)
    name, numbers = "mobilenet_v3_small", {"epochs": 1, "weight_decay": 0.1}
    passes: dict[Path, list[int]] = {}
    plain = eager.forward
    for run_dir in (tmp_path / "straight", tmp_path / "broken"):
        run(run_dir, colours, weights_dir, name, hyperparameters=numbers, augmentation="standard")
        sizes = passes.setdefault(run_dir, [])

        def forward(
            trunk: nn.Module,
            batch: torch.Tensor,
            sizes: list[int] = sizes,
            broken: bool = run_dir.name == "broken",  # noqa: FBT001 - as `sizes`, of this turn.
        ) -> torch.Tensor:
            if len(batch) > 1:  # A single blank image only asks for the shape.
                sizes.append(len(batch))
                if broken:
                    os.kill(os.getpid(), signal.SIGTERM)
            return plain(trunk, batch)

        monkeypatch.setattr(features, "forward", forward)
        while go(run_dir) == STOPPED:
            pass
    straight, broken = passes.values()
    assert straight == [10] * (4 + 3 * (VIEWS - 1))  # The last one is filled up.
    assert sorted(broken) == sorted(straight)
    assert (
        read(tmp_path / "broken", "card.json")["files"]
        == (read(tmp_path / "straight", "card.json")["files"])
    )


def test_a_checkpoint_counts_only_for_the_weights_it_was_made_with(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two attempts `model:pets` or the file of an architecture can become another one."""
    name, numbers = "mobilenet_v3_small", {"epochs": 2, "weight_decay": 0.1}
    folders = [tmp_path / "old", tmp_path / "new"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        torch.manual_seed(seed)
        save_file(zoo.build(name).state_dict(), folder / "file.safetensors")
        pretrained.add(name, folder / "file.safetensors", folder)
    straight = run(tmp_path / "straight", colours, folders[1], name, hyperparameters=numbers)
    assert go(straight) == DONE
    broken = run(tmp_path / "broken", colours, folders[0], name, hyperparameters=numbers)
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", one_step)
        assert go(broken) == STOPPED
    assert list((broken / "checkpoint" / "head").glob("step-*"))
    shutil.rmtree(broken / "cache")  # The worker does not keep it for the next attempt either.
    asked = json.loads((broken / "request.json").read_text())
    (broken / "request.json").write_text(json.dumps(asked | {"weights_dir": str(folders[1])}))
    assert go(broken) == DONE
    assert read(broken, "card.json")["files"] == read(straight, "card.json")["files"]


def test_dropout_repeats_when_a_run_is_interrupted(
    tmp_path: Path, colours: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"epochs": 3, "batch_size": 8, "weight_decay": 0.1}
    name = "mobilenet_v3_small"  # Its head has dropout.
    straight = run(tmp_path / "straight", colours, weights_dir, name, hyperparameters=numbers)
    assert go(straight) == DONE
    broken = run(tmp_path / "broken", colours, weights_dir, name, hyperparameters=numbers)
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        os.kill(os.getpid(), signal.SIGTERM)
        torch.rand(7)  # What else draws numbers in a process must not matter.

    monkeypatch.setattr(loop.Loop, "step", one_step)
    codes = [go(broken) for _ in range(10)]
    assert STOPPED in codes
    assert codes[-1] == DONE
    assert read(broken, "card.json")["files"] == read(straight, "card.json")["files"]


def test_a_second_run_on_the_same_images_finds_their_features(
    tmp_path: Path, colours: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits are the same as without, and another set of the images costs only its new ones."""
    name, passes = "mobilenet_v3_small", []
    plain = eager.forward

    def forward(trunk: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 1:  # A single blank image only asks for the shape.
            passes.append(len(batch))
        return plain(trunk, batch)

    monkeypatch.setattr(features, "forward", forward)

    def again(label: str, data: Path, **config: Any) -> list[int]:
        run_dir = run(tmp_path / label, data, weights_dir, name, **config)
        asked = json.loads((run_dir / "request.json").read_text())
        asked["cache_dir"] = str(tmp_path / "cache")
        (run_dir / "request.json").write_text(json.dumps(asked))
        passes.clear()
        assert go(run_dir) == DONE
        assert not (run_dir / "cache").exists()
        return list(passes)

    assert again("first", colours) == [32, 32]
    assert again("second", colours) == []
    alone = run(tmp_path / "alone", colours, weights_dir, name)
    assert go(alone) == DONE
    for label in ("second", "alone"):
        one, other = read(tmp_path / label, "card.json"), read(tmp_path / "first", "card.json")
        assert one["files"] == other["files"]
    assert again("views", colours, augmentation="standard") == [32] * (VIEWS - 1)
    assert again("views again", colours, augmentation="standard") == []
    assert again("other views", colours, augmentation="standard", seed=7) == [32] * (VIEWS - 1)
    grown = tmp_path / "grown"
    shutil.copytree(colours, grown)
    lines = (grown / "manifest.jsonl").read_text().splitlines()
    moved = [json.loads(line) | {"split": "train"} for line in lines if '"val"' in line]
    kept = [json.loads(line) for line in lines if '"train"' in line]
    some = "\n".join(json.dumps(row) for row in [*moved, *kept[1:]])
    vouch(grown, some + "\n")
    # Only the images that were held out pass again: they have passed as the predictor has them.
    assert again("grown again", grown) == [32]
    assert again("and again", grown) == []


def test_the_next_attempt_finds_the_features_of_a_killed_one(
    tmp_path: Path, colours: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker gives each attempt a folder of its own, and all the same cache."""
    passes: list[int] = []
    plain = eager.forward

    def forward(trunk: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 1:  # A single blank image only asks for the shape.
            passes.append(len(batch))
        return plain(trunk, batch)

    monkeypatch.setattr(features, "forward", forward)
    straight = run(tmp_path / "straight", colours, weights_dir, "mobilenet_v3_small")
    assert go(straight) == DONE
    assert passes == [32, 32]
    attempts = [tmp_path / "1", tmp_path / "2"]
    for attempt in attempts:
        run(attempt, colours, weights_dir, "mobilenet_v3_small")
        asked = json.loads((attempt / "request.json").read_text())
        asked["cache_dir"] = str(tmp_path / "cache")
        (attempt / "request.json").write_text(json.dumps(asked))
    killed = start(attempts[0], TOPWORK_FAILPOINTS="cache.after_part=kill@1")
    assert killed.wait(120) == -signal.SIGKILL
    passes.clear()
    assert go(attempts[1]) == DONE
    assert passes == [32]  # Those of the training images are there.
    assert read(attempts[1], "card.json")["files"] == read(straight, "card.json")["files"]


def test_the_place_in_a_batch_leaves_the_bits_of_features(weights_dir: Path) -> None:
    """That is why features may be shared between sets of images that are batched in other ways."""
    name = "mobilenet_v3_small"
    model = zoo.build(name, pretrained_state=weights_dir / f"{name}.safetensors").eval()
    trunk = split(model.to(memory_format=torch.channels_last), "classifier.3")[0]
    images = torch.randn(32, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = eager.forward(trunk, images)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(eager.forward(trunk, images[order]), whole[order])


def test_views_multiply_the_training_features(
    tmp_path: Path, colours: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.system.run_dir.PROGRESS_SECONDS", 0)
    run_dir = run(
        tmp_path / "run", colours, weights_dir, "mobilenet_v3_small", augmentation="standard"
    )
    assert go(run_dir) == DONE
    plan = read(run_dir, "card.json")["plan"]
    assert str(VIEWS) in plan["augmentation"]["reason"]
    told = [(event["progress"], event["step"]) for event in events(run_dir, "progress")]
    assert told == sorted(set(told))
    assert told[-1][0] == 1.0  # The evaluation still counts after all the steps on views.
    assert read(run_dir, "evaluation.json")["val"]["accuracy"] >= 0.8


def test_all_layers_learn_under_full_and_auxiliary_heads_are_dropped(
    tmp_path: Path, colours: Path, weights_dir: Path
) -> None:
    run_dir = run(
        tmp_path / "run",
        colours,
        weights_dir,
        "googlenet",
        strategy="full",
        hyperparameters={"epochs": 1, "batch_size": 16},
    )
    assert go(run_dir) == DONE
    model, card = artefact.load(run_dir / "result")
    before = zoo.build("googlenet", pretrained_state=weights_dir / "googlenet.safetensors")
    old, new = before.state_dict(), model.state_dict()
    assert not [name for name in new if name.startswith("aux")]
    assert not torch.equal(new["conv1.conv.weight"], old["conv1.conv.weight"])
    assert not torch.equal(new["conv1.bn.running_mean"], old["conv1.bn.running_mean"])
    assert card["head"] == {"layers": ["fc"], "auxiliary": []}


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Linear(6, 3), (40, 6)), (nn.Conv2d(6, 3, 1), (40, 6, 4, 5))]
)
def test_standardisation_folds_into_the_layer(
    layer: nn.Linear | nn.Conv2d, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    values = torch.randn(shape) * torch.arange(1, 7).reshape(6, *[1] * (len(shape) - 2)) + 3
    standard = Standardise.of(values)
    seen = standard(values).transpose(0, 1).flatten(1)
    assert seen.mean(1).abs().max() < 1e-5
    assert (seen.std(1) - 1).abs().max() < 0.05
    wanted = layer(standard(values))
    standard.fold_into(layer)
    assert torch.allclose(layer(values), wanted, atol=1e-4)


def test_a_feature_that_never_varies_is_not_blown_up() -> None:
    values = torch.randn(50, 4)
    values[:, 2] = 7.0
    standard = Standardise.of(values)
    assert standard.scale.isfinite().all()
    assert standard(values + 1e-3).abs().max() < 20


def test_a_padded_convolution_is_left_as_it_is() -> None:
    head = Head(0.0, nn.Conv2d(4, 2, 3, padding=1), [])
    standard = features.prepare(head, torch.randn(5, 4, 6, 6) + 9)
    assert standard.mean.abs().max() == 0
    assert (standard.scale == 1).all()


def test_the_head_is_the_models_own() -> None:
    model = zoo.build("squeezenet1_1", 1000)
    _, head = split(model, "classifier.1")
    assert layer_of(head) is model.get_submodule("classifier.1")
    assert Preprocess.for_architecture("squeezenet1_1").crop == 224
