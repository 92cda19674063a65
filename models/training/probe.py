"""Which arithmetic is fastest here: a few timed steps of each kind, and the answer remembered.

Each candidate starts from the same weights, images and random numbers on a copy of the network, so
nothing of the probe remains but its choice. The choice is kept beside the checkpoints, because a
resumed run must go on with it, and in the cache of this machine, because timings vary and runs
with one seed should agree.
"""

import copy
import json
import math
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.durable import write_atomically
from core.rundir import RunDir
from models.catalogue import Architecture
from models.data.staged import ACCEPTED, Staged
from models.estimate import ASSUMED_GIGAFLOPS
from models.modes import VIEWS
from models.networks.head import logits_of, split
from models.plan import Plan
from models.training import execution, recipe
from models.training.execution import Execution
from models.training.prepare import Start

WORTH_SECONDS = 15.0  # Estimated work below which nothing is measured.
SHARE, MOST_SECONDS = 0.05, 15.0  # Of that work, and at most, that measuring may take.
LEAST_GAIN = 1.1  # Timings of one and the same thing differ by nearly as much.
HOPELESS = 1.3  # Times as slow as the fastest: not timed again.
LEAST_IMAGES = 4
SLOWEST = 0.5  # Share of the assumed speed that networks with many small layers reach.
STEPS = 18  # About so many are taken: every candidate twice, the good ones twice again.
LOSS_TOLERANCE = 0.05  # Of the loss in fp32, or of 1 where that is smaller.
FEATURE_TOLERANCE = 0.03  # Norm of the difference, over the norm of the features in fp32.


@dataclass(frozen=True)
class Problem:
    """What will be done many times: training steps, or forward passes of a frozen trunk."""

    plan: Plan
    begin: Start
    facts: Architecture
    staged: Staged

    @property
    def forward(self) -> bool:
        """Tell whether the trunk only runs forward."""
        return self.plan.mode == "head"

    @property
    def gigaops(self) -> float:
        """Operations of one image in 10**9; a training step counts as three forward passes."""
        size = (self.plan.image_size / self.facts.input_size) ** 2
        return (2 if self.forward else 6) * self.facts.gigaops * size

    @property
    def seconds(self) -> float:
        """Rough estimate of the whole work."""
        train, val = (len(self.staged.splits[name]) for name in ("train", "val"))
        views = 1 if self.plan.augmentation == "none" else VIEWS
        images = views * train + val if self.forward else self.plan.epochs * train
        return images * self.gigaops / ASSUMED_GIGAFLOPS


def decide(how: Execution, problem: Problem, run: RunDir, cache: Path | None) -> Execution:
    """Return `how` with the precision and the layout that this run uses throughout.

    Args:
        how: What holds without measuring.
        problem: What would be measured.
        run: Its checkpoint folder keeps the choice for later attempts.
        cache: Folder that keeps it for later runs on this machine, made when needed.
    """
    if problem.plan.precision is not None:
        return execution.as_asked(how, problem.begin.model)
    if problem.seconds < WORTH_SECONDS:
        words = f"the work is too short to measure what is faster; {how.reason}"
        return replace(how, reason=words)
    key = _key(how, problem)
    name = f"execution-{sha256(key.encode()).hexdigest()[:16]}.json"
    files = [folder / name for folder in (run.checkpoint, cache) if folder]
    known, whole = next((choice for file in files if (choice := _read(file, key))), None), True
    if known is None:
        known, whole = _measured(how, problem)
    text = json.dumps({"key": key, "choice": known}).encode()
    for file in files if whole else files[:1]:
        if _read(file, key) != known:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, text)
    return replace(how, **known)


def _key(how: Execution, problem: Problem) -> str:
    plan = problem.plan
    frozen = "features" if problem.forward else plan.batch_norm
    shape = [problem.facts.name, plan.image_size, plan.batch_size, plan.optimizer, frozen]
    return json.dumps([shape, how.facts()], sort_keys=True)


def _read(file: Path, key: str) -> dict[str, Any] | None:
    """Return a remembered choice; None when there is none, or none that can be read."""
    try:
        content = json.loads(file.read_text("utf-8"))
        choice: dict[str, Any] = content["choice"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return choice if content["key"] == key else None


def _measured(how: Execution, problem: Problem) -> tuple[dict[str, Any], bool]:
    """Time the candidates.

    Returns:
        The fields of the winner, its reason among them, and whether every candidate was timed: on
        a busy machine that can take longer than is worth it.
    """
    budget = min(MOST_SECONDS, SHARE * problem.seconds)
    size = int(budget / STEPS * SLOWEST * ASSUMED_GIGAFLOPS / problem.gigaops)
    images, labels = _batch(problem, max(LEAST_IMAGES, min(size, problem.plan.batch_size)), how)
    entered = candidates(how, problem.begin.model)
    if not problem.forward:
        how.use_threads(problem.gigaops / 2 * problem.plan.batch_size)
    attempt = _passes if problem.forward else _steps
    seconds: dict[Execution, float] = {}
    outcomes: dict[Execution, Tensor] = {}
    started = time.monotonic()
    # Twice, so that a short disturbance hits one of two; once, if need be, beyond the budget.
    laps = [(one, limit * budget) for limit in (2, 1) for one in entered]
    model = copy.deepcopy(problem.begin.model)
    with torch.random.fork_rng():
        for one, limit in laps:
            late = bool(seconds) and time.monotonic() - started > limit
            slow = seconds.get(one, 0) > HOPELESS * min(seconds.values(), default=math.inf)
            if late or (slow and one is not entered[0]):
                continue
            torch.manual_seed(0)
            took, outcomes[one] = attempt(one, problem, model, images, labels)
            seconds[one] = min(took, seconds.get(one, math.inf))
    return _verdict(seconds, outcomes, problem, len(images)), len(seconds) == len(entered)


def candidates(how: Execution, model: nn.Module) -> list[Execution]:
    """Return what may win, fp32 in channels_last first, then the likeliest: time may run out."""
    kinds = [("fp32", False)]
    if how.device == "cuda" or execution.has_bf16(how.device):
        low = "bf16" if execution.has_bf16(how.device) else "fp16"
        kinds += [(low, True)] * execution.grouped(model) + [(low, False)]
    return [
        replace(how, precision=precision, grouped_fp32=apart, channels_last=layout)
        for layout in (True, False)
        for precision, apart in kinds
    ]


def _batch(problem: Problem, size: int, how: Execution) -> tuple[Tensor, Tensor]:
    """Return training images from all over the dataset, normalised, and their class numbers."""
    samples = problem.staged.splits["train"]
    size = min(size, len(samples))
    chosen = [samples[number * len(samples) // size] for number in range(size)]
    preprocess = problem.begin.preprocess
    [crops] = problem.staged.stream(
        chosen, lambda data: preprocess.read(data, ACCEPTED), batch=size, threads=how.threads
    )
    return preprocess.normalise(crops), torch.tensor([sample.label for sample in chosen])


def _steps(
    how: Execution, problem: Problem, model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[float, Tensor]:
    """Take two training steps; return the seconds of the second, and both losses."""
    plan, begin = problem.plan, problem.begin
    model.load_state_dict(begin.model.state_dict())
    how.place(model).train()
    if plan.batch_norm == "frozen":
        recipe.freeze_batch_norm(model)
    optimizer = recipe.optimizer(plan, model, begin.heads.all)
    recipe.set_rate(optimizer, recipe.rate_at(plan, 0, 1000))
    scaler, wanted = how.scaler(), labels.to(how.device)
    losses, started = [], 0.0
    for _ in range(2):
        started = _now(how)
        with how.autocast():
            logits, others = logits_of(model(how.put(images)))
        loss = functional.cross_entropy(logits.float(), wanted)
        losses.append(loss.detach())
        for other in others:
            loss = loss + functional.cross_entropy(other.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch says no type.
        scaler.step(optimizer)
        scaler.update()
    return _now(how) - started, torch.stack(losses).cpu()


def _passes(
    how: Execution, problem: Problem, model: nn.Module, images: Tensor, _labels: Tensor
) -> tuple[float, Tensor]:
    """Run the trunk twice; return the seconds of the second pass, and the features."""
    trunk, _ = split(how.place(model.eval()), problem.begin.heads.main)
    running, started = how.running(trunk), 0.0
    with torch.inference_mode():
        for _ in range(2):
            started = _now(how)
            features = running(images)
        return _now(how) - started, features.cpu()


def _now(how: Execution) -> float:
    if how.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _verdict(
    seconds: dict[Execution, float], outcomes: dict[Execution, Tensor], problem: Problem, size: int
) -> dict[str, Any]:
    """Judge: the fastest that computes the same, or fp32 where that gains next to nothing."""
    plain, *others = seconds
    agree = features_agree if problem.forward else losses_agree
    right = [one for one in others if agree(outcomes[one], outcomes[plain])]
    best = min(right, key=lambda one: seconds[one], default=plain)
    if seconds[plain] < LEAST_GAIN * seconds[best]:
        best = plain
    listed = ", ".join(
        f"{one.arithmetic} {seconds[plain] / seconds[one]:.2f}x"
        + ("" if one in right else " (another result)")
        for one in others
    )
    listed = listed or "there was no time for any other"
    unit = "pass" if problem.forward else "training step"
    words = f"measured here, one {unit} of {size} images against {plain.arithmetic}: {listed}"
    return {
        "precision": best.precision,
        "grouped_fp32": best.grouped_fp32,
        "channels_last": best.channels_last,
        "reason": f"{words}; a gain below {LEAST_GAIN - 1:.0%} counts as none",
    }


def losses_agree(losses: Tensor, plain: Tensor) -> bool:
    """Tell whether losses are those of fp32, within the tolerance."""
    return bool(((losses - plain).abs() <= LOSS_TOLERANCE * plain.abs().clamp(min=1)).all())


def features_agree(features: Tensor, plain: Tensor) -> bool:
    """Tell whether the features of every image are those of fp32, within the tolerance."""
    apart = (features - plain).flatten(1).norm(dim=1)
    return bool((apart <= FEATURE_TOLERANCE * plain.flatten(1).norm(dim=1)).all())
