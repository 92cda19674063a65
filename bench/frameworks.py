"""Compare with other training loops: python bench/frameworks.py [ARCHIVE.zip].

Full fine-tuning of one network on the same images, from the same weights, with the same epochs,
batch size and seed, in processes of their own that take turns: Topwork, the plain PyTorch recipe
of bench/plain.py, timm (its data loader, augmentation, optimiser, schedule and defaults) and
fastai's `vision_learner` with `fine_tune` (one of the epochs frozen, as it does). Every side uses
its own learning rates and judges its own validation images. The clock starts with the process, so
imports count. timm and fastai are installed into an environment made for the bench; it borrows
torch from this one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

Epoch = tuple[float, float]  # Seconds since the process began, validation accuracy.
Run = list[Epoch]
BATCH = 32
WANTED = ("timm>=1.0", "fastai>=2.8")


def say(accuracy: float) -> None:
    """Tell the parent that an epoch ended."""
    print(f"EPOCH {accuracy:.5f}", flush=True)


def run_plain(folder: Path, architecture: str, epochs: int, seed: int) -> None:
    """Train by the tutorial's recipe."""
    import torch  # noqa: PLC0415 - each side imports only what it needs.

    from bench import plain  # noqa: PLC0415 - as above.

    torch.manual_seed(seed)
    weights = folder / "weights" / f"{architecture}.safetensors"
    recipe = plain.Plain.of(folder / "plain", architecture, weights, frozen=False, batch=BATCH)
    for _ in range(epochs):
        recipe.model.train()
        for images, labels in recipe.train:
            recipe.step(images, labels)
        say(recipe.accuracy())


def run_timm(folder: Path, architecture: str, epochs: int, seed: int) -> None:
    """Train as timm's train.py does with its defaults for one process."""
    import timm.data  # noqa: PLC0415 - as above.
    import timm.optim  # noqa: PLC0415
    import timm.scheduler  # noqa: PLC0415
    import torch  # noqa: PLC0415

    torch.manual_seed(seed)
    model = network(folder, architecture)

    def loader(part: str, *, training: bool):  # noqa: ANN202 - a type of timm's.
        images = timm.data.create_dataset("", root=folder / "plain" / part)
        return timm.data.create_loader(
            images, (3, 224, 224), BATCH, is_training=training, use_prefetcher=False,
            color_jitter=0.4 if training else None, num_workers=0, device=torch.device("cpu"),
        )  # fmt: skip

    train, val = loader("train", training=True), loader("val", training=False)
    rate = 0.1 * BATCH / 256  # Its --lr-base over its --lr-base-size.
    optimizer = timm.optim.create_optimizer_v2(model, "sgd", lr=rate, weight_decay=2e-5)
    schedule, _ = timm.scheduler.create_scheduler_v2(
        optimizer, "cosine", num_epochs=epochs, warmup_epochs=0
    )
    for epoch in range(epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        schedule.step(epoch + 1)
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in val)
        say(right / len(val.dataset))


def run_fastai(folder: Path, architecture: str, epochs: int, seed: int) -> None:
    """Train as the fastai book does."""
    from fastai.callback.core import Callback  # noqa: PLC0415 - as above.
    from fastai.metrics import accuracy  # noqa: PLC0415
    from fastai.torch_core import set_seed  # noqa: PLC0415
    from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms  # noqa: PLC0415
    from fastai.vision.learner import (  # noqa: PLC0415
        default_split,
        imagenet_stats,
        model_meta,
        vision_learner,
    )
    from torch.nn import Sequential  # noqa: PLC0415

    class Tell(Callback):
        """Tells the parent; after the recorder, whose order is 50."""

        order = 60

        def after_epoch(self) -> None:
            say(float(self.recorder.values[-1][-1]))

    set_seed(seed)
    data = ImageDataLoaders.from_folder(
        folder / "plain", valid="val", item_tfms=Resize(256), batch_tfms=aug_transforms(size=224),
        bs=BATCH, num_workers=0, seed=seed,
    )  # fmt: skip

    def body(*, pretrained: bool = True):  # noqa: ANN202, ARG001 - as fastai calls it.
        return network(folder, architecture, classes=None)

    def trunk(model):  # noqa: ANN001, ANN202 - as fastai calls it.
        """Return what comes before the pooling, which fastai finds only where it is a layer."""
        return model.features if hasattr(model, "features") else Sequential(*model.children())[:-2]

    # It takes an argument `cut` and does not pass it on; its table of networks is heard.
    model_meta[body] = {"cut": trunk, "split": default_split, "stats": imagenet_stats}
    learner = vision_learner(data, body, metrics=accuracy, cbs=Tell())
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs - 1, freeze_epochs=1)


def run_topwork(folder: Path, architecture: str, epochs: int, seed: int) -> None:
    """Train with `python -m models.train` and pass its epochs on."""
    run = Path(tempfile.mkdtemp(dir=folder))
    request = {
        "config": {
            "architecture": architecture,
            "strategy": "full",
            "early_stopping": None,
            "seed": seed,
            "hyperparameters": {"epochs": epochs, "batch_size": BATCH},
        },
        "dataset": str(folder / "ingest" / "result"),
        "weights_dir": str(folder / "weights"),
        "offline": True,
    }
    (run / "request.json").write_text(json.dumps(request))
    child = subprocess.Popen([sys.executable, "-m", "models.train", str(run)])
    for line in follow(run / "events.jsonl", child):
        event = json.loads(line)
        if event["kind"] == "epoch":
            say(event["val_accuracy"])
    if child.returncode:
        sys.exit((run / "error.json").read_text())


def follow(path: Path, child: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield the lines of a file as they appear until the child has ended."""
    rest, ended = "", False
    while not path.exists() and child.poll() is None:
        time.sleep(0.01)
    with path.open() as file:
        while True:
            ended = child.poll() is not None
            *lines, rest = (rest + file.read()).split("\n")
            yield from lines
            if ended:
                return
            time.sleep(0.01)


def network(folder: Path, architecture: str, classes: int | None = 2):  # noqa: ANN201 - torch is not imported here.
    """Return the torchvision network with the shared weights, with a new head if asked for."""
    from safetensors.torch import load_file  # noqa: PLC0415 - as above.
    from torchvision import models  # noqa: PLC0415

    from models.networks import head  # noqa: PLC0415

    model = models.get_model(architecture, weights=None)
    model.load_state_dict(load_file(folder / "weights" / f"{architecture}.safetensors"))
    if classes is not None:
        head.replace(model, classes)
    return model


SIDES: dict[str, Callable[[Path, str, int, int], None]] = {
    "topwork": run_topwork,
    "plain": run_plain,
    "timm": run_timm,
    "fastai": run_fastai,
}


def environment(folder: Path) -> Path:
    """Make an environment with timm and fastai over the torch of this one; return its Python."""
    place = folder / "environment"
    if not place.exists():
        venv.create(place, with_pip=True)
        inside = next(place.glob("lib/python3*/site-packages"))
        (inside / "torch.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        pip = [str(place / "bin" / "pip"), "install", "--quiet", *WANTED]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    return place / "bin" / "python"


def measure(python: Path, side: str, folder: Path, asked: argparse.Namespace, seed: int) -> Run:
    """Run one side in a process of its own; return when each epoch ended and how good it was."""
    root = Path(__file__).resolve().parents[1]
    inner = ["--side", side, "--folder", folder, "--seed", seed, "--epochs", asked.epochs]
    command = [python, __file__, *inner, "--architecture", asked.architecture]
    started = time.perf_counter()
    child = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if side == "fastai" else None,  # Its notes on notebooks.
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    )
    lines = (line.split() for line in child.stdout or () if line.startswith("EPOCH"))
    epochs = [(time.perf_counter() - started, float(value)) for _, value in lines]
    if child.wait() or len(epochs) != asked.epochs:
        sys.exit(f"{side} ended with {child.returncode} after {len(epochs)} epochs")
    return epochs


def report(side: str, runs: list[Run], goal: float, reference: list[Run]) -> None:
    """Print medians over the runs of one side."""
    whole = [run[-1][0] for run in runs]
    epochs = statistics.median((run[-1][0] - run[0][0]) / (len(run) - 1) for run in runs)
    best = [max(value for _, value in run) for run in runs]
    reached = [next((at for at, value in run if value >= goal), None) for run in runs]
    times = [at for at in reached if at is not None]
    first = f"{statistics.median(times):.1f} s" if len(times) == len(runs) else "not in every run"
    slower = statistics.median(
        one[-1][0] / other[-1][0] for one, other in zip(runs, reference, strict=True)
    )
    print(
        f"{side:8} {statistics.median(whole):7.1f} s ({min(whole):.1f} to {max(whole):.1f}), "
        f"{epochs:.1f} s an epoch, best accuracy {statistics.median(best):.3f} "
        f"({min(best):.3f} to {max(best):.3f}), {goal} after {first}, {slower:.2f} x topwork"
    )


def main() -> None:
    """Take turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--goal", type=float, default=0.93)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        SIDES[asked.side](asked.folder, asked.architecture, asked.epochs, asked.seed)
        return
    from bench import plain  # noqa: PLC0415 - needs torch, which the sides start without.

    print(plain.machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain.prepare(asked.archive or plain.SHARED, folder, asked.architecture)
        python = environment(folder)
        found: dict[str, list[Run]] = {side: [] for side in SIDES}
        for seed in range(asked.repeats):
            for side, runs in found.items():
                runs.append(measure(python, side, folder, asked, seed))
    print(f"{asked.architecture}, {asked.epochs} epochs, batch {BATCH}, n = {asked.repeats}")
    for side, runs in found.items():
        report(side, runs, asked.goal, found["topwork"])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
