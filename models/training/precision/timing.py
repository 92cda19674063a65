"""Timing of candidates: they take turns at one batch, on a copy of the network."""

import math
import time
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.system.machine import ran_out_of_memory
from models.compute.execution import Execution
from models.data.dataset import ACCEPTED
from models.networks.head import logits_of
from models.networks.loading import load_tensors
from models.training import recipe
from models.training.precision.workload import Workload


class Trials:
    """What each candidate took and computed, from the same weights, images and random numbers.

    The images, at most `size`, come from all over the data. `seconds` are those of the fastest
    trial, infinite where it failed; `outcomes` losses or features. Another run may have the
    memory that one `lacked_memory` for.
    """

    def __init__(self, usual: Execution, workload: Workload, model: nn.Module, size: int) -> None:
        samples = workload.dataset.splits["train"]
        size = min(size, len(samples))
        chosen = [samples[number * len(samples) // size] for number in range(size)]
        preprocess = workload.network.preprocess
        [crops] = workload.dataset.stream(
            chosen, lambda data: preprocess.read(data, ACCEPTED), batch=size, threads=usual.threads
        )
        self.images = preprocess.normalise(crops)
        self.labels = torch.tensor([sample.label for sample in chosen])
        self.workload, self.model = workload, model
        self.seconds: dict[Execution, float] = {}
        self.outcomes: dict[Execution, Tensor] = {}
        self.lacked_memory = False

    def take(self, candidate: Execution) -> None:
        """Time a candidate, perhaps once more."""
        torch.manual_seed(0)
        attempt = passes if self.workload.forward else steps
        seconds = math.inf
        # Training has an answer to a lack of memory, and not everything can be compiled.
        try:
            seconds, self.outcomes[candidate] = attempt(
                candidate, self.workload, self.model, self.images, self.labels
            )
        except (MemoryError, RuntimeError) as error:
            self.lacked_memory |= ran_out_of_memory(error)
        self.seconds[candidate] = min(seconds, self.seconds.get(candidate, math.inf))


def steps(
    candidate: Execution, workload: Workload, model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[float, Tensor]:
    """Take two training steps; return the seconds of the second, and both losses."""
    plan, network = workload.plan, workload.network
    load_tensors(model, network.model.state_dict())
    candidate.place(model).train()
    if plan.batch_norm == "frozen":
        recipe.freeze_batch_norm(model)
    optimizer = recipe.optimizer(plan, model, network.heads.all)
    recipe.set_rate(optimizer, recipe.rate_at(plan, 0, 1000))
    scaler, targets = candidate.scaler(), labels.to(candidate.device)
    losses, started = [], 0.0
    for _ in range(2):
        started = now(candidate)
        with candidate.autocast():
            logits, others = logits_of(model(candidate.put(images)))
        loss = functional.cross_entropy(logits.float(), targets)
        losses.append(loss.detach())
        for other in others:
            loss = loss + functional.cross_entropy(other.float(), targets)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch says no type.
        scaler.step(optimizer)
        scaler.update()
    return now(candidate) - started, torch.stack(losses).cpu()


def passes(
    candidate: Execution, workload: Workload, trunk: nn.Module, images: Tensor, _labels: Tensor
) -> tuple[float, Tensor]:
    """Run a trunk twice; return the seconds of the second pass, and the features.

    What the first takes longer is compilation, which is shared by all images that will pass.
    """
    running = candidate.running(trunk)
    marks = [now(candidate)]
    with torch.inference_mode():
        for _ in range(2):
            features = running(images)
            marks.append(now(candidate))
    first, second = (after - before for before, after in pairwise(marks))
    compiling = max(0.0, first - second) if candidate.engine != "torch" else 0.0
    return second + compiling * len(images) / workload.images, features.cpu()


def now(candidate: Execution) -> float:
    """Return the time at which all work given to the device is done."""
    if candidate.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
