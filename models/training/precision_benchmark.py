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
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.system.atomic_files import write_atomically
from core.system.machine import ran_out_of_memory
from core.system.run_dir import RunDir
from models.compute import execution, openvino
from models.compute.execution import Execution
from models.data import augment
from models.data.dataset import ACCEPTED, Staged
from models.networks.fold import folded
from models.networks.head import logits_of
from models.networks.loading import load_tensors
from models.planning.catalogue import Architecture
from models.planning.defaults import VIEWS
from models.planning.estimate import ASSUMED_GIGAFLOPS
from models.planning.plan import Plan
from models.training import recipe
from models.training.initial_model import Start

WORTH_SECONDS = 15.0  # Estimated work below which nothing is measured.
WORTH_PASSES = 5.0  # The same for passes, which have two candidates.
WORTH_COMPILING = 600.0  # Estimated passes below which no compilation pays.
SHARE, MOST_SECONDS = 0.05, 15.0  # Of that work, and at most, that measuring may take.
LEAST_GAIN = 1.1  # Timings of one and the same thing differ by nearly as much.
HOPELESS = 1.3  # Times as slow as the fastest: not timed again.
LEAST_IMAGES = 4
STEPS = 6  # Of the plain kind fill the budget: two of each kind that is likely to win.
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
    def images(self) -> int:
        """Images that pass, those of every epoch or view counted."""
        views = VIEWS if augment.planned(self.plan) else 1
        times = views if self.forward else self.plan.epochs
        return times * len(self.staged.splits["train"])

    @property
    def seconds(self) -> float:
        """Rough estimate of the whole work."""
        return self.images * self.gigaops / ASSUMED_GIGAFLOPS

    @property
    def compiler(self) -> str | None:
        """Version of OpenVINO where compiling a trunk may pay; None where it cannot."""
        return openvino.version() if self.forward and self.seconds >= WORTH_COMPILING else None

    @property
    def worth(self) -> float:
        """Estimated seconds of work from which on measuring pays."""
        return WORTH_PASSES if self.forward else WORTH_SECONDS


def decide(how: Execution, problem: Problem, run: RunDir, cache: Path | None) -> Execution:
    """Return `how` with the precision and the layout that this run uses throughout.

    Args:
        how: What holds without measuring.
        problem: What would be measured.
        run: Its checkpoint folder keeps the choice for later attempts.
        cache: Folder that keeps it for later runs on this machine, made when needed.
    """
    chosen = _decided(how, problem, run, cache)
    step = 3 * problem.plan.batch_size * problem.facts.gigaops
    if problem.forward or chosen.threads_for(step) == chosen.threads:
        return chosen
    return replace(chosen, reason=f"{chosen.reason}; a step is too small for more than one thread")


def _decided(how: Execution, problem: Problem, run: RunDir, cache: Path | None) -> Execution:
    if problem.plan.precision is not None:
        return execution.as_asked(how, problem.begin.model)
    if problem.seconds < problem.worth:
        words = f"the work is too short to measure what is faster; {how.reason}"
        return replace(how, reason=words)
    key = _key(how, problem)
    name = f"execution-{sha256(key.encode()).hexdigest()[:16]}.json"
    files = [folder / name for folder in (run.checkpoint, cache) if folder]
    known = next((found for file in files if (found := _read(file, key))), None)
    if known is None:
        known = _measured(how, problem)
    choice, whole = known
    text = json.dumps({"key": key, "choice": choice, "whole": whole}).encode()
    for file in files if whole else files[:1]:
        if _read(file, key) != known:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, text)
    return replace(how, **choice)


def _key(how: Execution, problem: Problem) -> str:
    plan = problem.plan
    frozen = "features" if problem.forward else plan.batch_norm
    shape = [problem.facts.name, plan.image_size, plan.batch_size, plan.optimizer, frozen]
    return json.dumps([shape, how.facts(), problem.compiler], sort_keys=True)


def _read(file: Path, key: str) -> tuple[dict[str, Any], bool] | None:
    """Return what `_measured` gave; None when there is nothing, or nothing that can be read."""
    try:
        content = json.loads(file.read_text("utf-8"))
        known = content["choice"], content["whole"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return known if content["key"] == key else None


def _measured(how: Execution, problem: Problem) -> tuple[dict[str, Any], bool]:
    """Time the candidates.

    Returns:
        The fields of the winner, its reason among them, and whether other runs may count on it: on
        a busy machine there may have been no time for every candidate, or no memory.
    """
    budget = min(MOST_SECONDS, SHARE * problem.seconds)
    entered = passages(how, problem) if problem.forward else candidates(how, problem.begin.model)
    if not problem.forward:
        how.use_threads(problem.gigaops / 2 * problem.plan.batch_size)
    attempt = _passes if problem.forward else _steps
    model = copy.deepcopy(problem.begin.model)
    if problem.forward:
        model = folded(how.place(model.eval()), problem.begin.heads.main)
    seconds: dict[Execution, float] = {}
    outcomes: dict[Execution, Tensor] = {}
    lacking_memory = False
    started = time.monotonic()

    def take(one: Execution) -> None:
        nonlocal lacking_memory
        torch.manual_seed(0)
        took = math.inf
        # Training has an answer to a lack of memory, and not everything can be compiled.
        try:
            took, outcomes[one] = attempt(one, problem, model, images, labels)
        except (MemoryError, RuntimeError) as error:
            lacking_memory |= ran_out_of_memory(error)
        seconds[one] = min(took, seconds.get(one, math.inf))

    with torch.random.fork_rng():
        images, labels = _batch(problem, LEAST_IMAGES, how)
        take(entered[0])
        # What does not depend on the images, like turning weights into bf16, counts too much in a
        # small batch: so they are as many as there is time for.
        # If the first failed, that is none.
        size = int(budget / STEPS * LEAST_IMAGES / max(seconds[entered[0]], 1e-6))
        size = min(size, problem.plan.batch_size, len(problem.staged.splits["train"]))
        if size > LEAST_IMAGES:
            images, labels = _batch(problem, size, how)
            seconds.clear()
        for one in entered:
            # The first lap may take twice what it should, as the slowest candidates come last.
            late = bool(seconds) and time.monotonic() - started > 2 * budget
            if one not in seconds and not late:
                take(one)
        # Again, as a short disturbance hits one of two, but only what may still win.
        for one in entered:
            close = seconds.get(one, math.inf) < HOPELESS * min(seconds.values())
            # What has to be compiled would be compiled again.
            if close and one.engine == "torch" and time.monotonic() - started <= budget:
                take(one)
    whole = len(seconds) == len(entered) and not lacking_memory
    return _verdict(seconds, outcomes, problem, len(images)), whole


def candidates(how: Execution, model: nn.Module) -> list[Execution]:
    """Return how steps may be taken, fp32 in channels_last first, then the likeliest.

    Time may run out before the last.
    """
    kinds = [("fp32", False)]
    if how.device == "cuda" or execution.has_bf16(how.device):
        low = "bf16" if execution.has_bf16(how.device) else "fp16"
        kinds += [(low, True)] * execution.grouped(model) + [(low, False)]
    return [
        replace(how, precision=precision, grouped_fp32=apart, channels_last=layout)
        for layout in (True, False)
        for precision, apart in kinds
    ]


def passages(how: Execution, problem: Problem) -> list[Execution]:
    """Return how a trunk may run, in channels_last: NCHW never won a pass."""
    kinds = ["fp32"]
    if how.device == "cuda" or execution.has_bf16(how.device):
        kinds.append("bf16" if execution.has_bf16(how.device) else "fp16")
    engines = ["torch"]
    if how.device == "cpu" and problem.compiler:
        engines.append("openvino")
    return [
        replace(how, precision=precision, channels_last=True, engine=engine)
        for engine in engines
        for precision in kinds
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
    load_tensors(model, begin.model.state_dict())
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
    how: Execution, problem: Problem, trunk: nn.Module, images: Tensor, _labels: Tensor
) -> tuple[float, Tensor]:
    """Run a trunk twice; return the seconds of the second pass, and the features.

    What the first takes longer is compilation, which is shared by all images that will pass.
    """
    running = how.running(trunk)
    marks = [_now(how)]
    with torch.inference_mode():
        for _ in range(2):
            features = running(images)
            marks.append(_now(how))
    first, second = (after - before for before, after in pairwise(marks))
    compiling = max(0.0, first - second) if how.engine != "torch" else 0.0
    return second + compiling * len(images) / problem.images, features.cpu()


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
    done = [one for one in others if math.isfinite(seconds[plain] + seconds[one])]
    right = [one for one in done if agree(outcomes[one], outcomes[plain])]
    best = min(right, key=lambda one: seconds[one], default=plain)
    if seconds[plain] < LEAST_GAIN * seconds[best]:
        best = plain

    def result(one: Execution) -> str:
        if one not in done:
            return "failed" if math.isinf(seconds[one]) else "not compared, as fp32 failed"
        return f"{seconds[plain] / seconds[one]:.2f}x" + " (another result)" * (one not in right)

    listed = ", ".join(f"{one.arithmetic} {result(one)}" for one in others)
    listed = listed or "there was no time for any other"
    unit = "pass" if problem.forward else "training step"
    words = f"measured here, one {unit} of {size} images against {plain.arithmetic}: {listed}"
    return {
        "precision": best.precision,
        "grouped_fp32": best.grouped_fp32,
        "channels_last": best.channels_last,
        "engine": best.engine,
        "reason": f"{words}; a gain below {LEAST_GAIN - 1:.0%} counts as none",
    }


def losses_agree(losses: Tensor, plain: Tensor) -> bool:
    """Tell whether losses are those of fp32, within the tolerance."""
    return bool(((losses - plain).abs() <= LOSS_TOLERANCE * plain.abs().clamp(min=1)).all())


def features_agree(features: Tensor, plain: Tensor) -> bool:
    """Tell whether the features of every image are those of fp32, within the tolerance."""
    apart = (features - plain).flatten(1).norm(dim=1)
    return bool((apart <= FEATURE_TOLERANCE * plain.flatten(1).norm(dim=1)).all())
