"""The training loop: linear, the same for a head on cached features and for a whole network.

Everything random is a function of (seed, epoch, step or sample) and the learning rate one of the
step, so the state to resume from is the weights, the optimiser's moments and a few counters. Not
one number of the result depends on the time or on where a run was interrupted.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.system.failpoints import hit
from core.system.machine import ran_out_of_memory
from core.system.progress import Meter
from core.system.run_dir import RunDir, Stopped
from models.compute.execution import Execution
from models.compute.memory import Parts, counts_batches, parts_of, within
from models.data.dataset import batch_count, batches
from models.data.randomness import drawn, order, step_seed
from models.data.sources import Indices, Source
from models.evaluation import metrics
from models.networks import blocks
from models.networks.blocks import Block
from models.networks.head import logits_of
from models.networks.loading import load_tensors
from models.planning.plan import Plan
from models.training import mixing, preflight, recipe, resume
from models.training.checkpoint import Tensors
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.ema import Average
from models.training.resume import Progress
from topwork.errors import LossDiverged, OutOfMemory

SAVE_SECONDS = 60.0
SAVE_SHARE = 50  # A save may cost at most one part in so many of the time.
FIRST_SAVE, WRITE_RATE = 0.05, 4e8  # Seconds, and bytes a second, until a save was measured.
EVALUATION_BATCH = 64
LOOK_STEPS = 25  # Reading the loss stalls a GPU, so not every step.


@dataclass(frozen=True)
class Task:
    """What to train on what; `auxiliary` are the loss weights of auxiliary heads in order."""

    model: nn.Module
    train: Source
    val: Source | None
    plan: Plan
    heads: tuple[str, ...]
    auxiliary: tuple[float, ...]
    classes: int
    seed: int
    digest: str
    execution: Execution
    deadline: Deadline
    group: Group
    cut: Sequence[Block] = ()  # The trunk's blocks where they learn one after the other.
    before: Progress | None = None  # What the stage before this one reached, which is to be beaten.


class Fit:
    """One run of the loop, resumed from the newest whole checkpoint."""

    def __init__(self, task: Task, run: RunDir, meter: Meter) -> None:
        self.task, self.run, self.meter = task, run, meter
        self.folder = run.checkpoint / task.plan.stage
        self.folder.mkdir(exist_ok=True)
        self.optimizer = recipe.optimizer(task.plan, task.model, task.heads, task.cut)
        self.models = {"model": task.model}
        self.average = None
        if task.plan.ema is not None:
            self.average = Average(task.model, task.plan.ema)
            self.models["average"] = self.average.model
        self.judged = self.average.model if self.average else task.model
        labels = task.train.labels
        self.loss = recipe.loss(task.plan, labels, task.classes, task.execution.device)
        self.mix = mixing.planned(task.plan, task.classes)
        self.weights = recipe.class_weights(labels, task.classes).numpy()
        self.steps = batch_count(len(labels), task.plan.batch_size)
        self.total = torch.zeros((), device=task.execution.device)
        self.key = resume.key(task.plan, task.digest, task.seed, task.execution)
        with task.group.in_turn():
            found = resume.load(run, self.folder, self.key, self.models, self.optimizer, self.total)
        self.now, self.best = found or self.first()
        self.scaler = task.execution.scaler()
        if self.now.scaler:
            self.scaler.load_state_dict(self.now.scaler)
        self.earlier = 0 if task.before is None else len(task.before.history)
        self.parts = Parts(task.model, self.now.parts)
        self.saved = time.monotonic()
        size = preflight.checkpoint_bytes(task.model, task.plan)
        self.save_cost = FIRST_SAVE + size / WRITE_RATE
        self.fresh = True  # No step done in this process yet.

    def first(self) -> tuple[Progress, Tensors]:
        """Return the state before the first step; what an earlier stage reached is to be beaten."""
        before = self.task.before
        if before is None:
            return Progress(), {}
        history = list(before.history)
        start = replace(
            before, epoch=len(history) + 1, step=0, seen=0, finished=False, parts=1, history=history
        )
        return start, _copy(self.task.model)

    @property
    def done(self) -> int:
        """Steps of this stage so far."""
        return (self.now.epoch - 1 - self.earlier) * self.steps + self.now.step

    def train(self) -> Progress:
        """Train to the end and leave the best epoch's weights in the model."""
        now = self.now
        while not now.finished:
            began, before = time.monotonic(), now.seen
            try:
                complete = self.one_epoch()
                if complete:
                    self.close_epoch(time.monotonic() - began, now.seen - before)
            except (LossDiverged, OutOfMemory) as error:
                # All ranks see the same loss; out of memory runs one alone, and the others wait.
                alone = isinstance(error, OutOfMemory) and self.task.group.size > 1
                if self.task.before is None or alone:
                    raise
                words = f"{error.message} What was reached before is kept."
                self.run.events.note(error.code, words)
                complete = False
            last = now.epoch - self.earlier >= self.task.plan.epochs
            now.finished = not complete or last or self.no_gain()
            now.epoch += complete
            # An end that hangs on time or memory may not be reached twice; any other one is.
            certain = complete and self.task.deadline.minutes is None
            self.save(only_if_due=certain or not now.finished)
        load_tensors(self.task.model, self.best)
        return now

    def one_epoch(self) -> bool:
        """Visit every sample once; False when the time limit cut the epoch short."""
        task, now = self.task, self.now
        task.model.train()
        if task.cut:
            blocks.learn(task.model, task.cut, self.awake(now.epoch - self.earlier))
        if task.plan.batch_norm == "frozen":
            recipe.freeze_batch_norm(task.model)
        for indices in batches(self.visits(now.epoch), task.plan.batch_size)[now.step :]:
            if task.group.lead(lambda: self.run.stopping):
                self.save()
                raise Stopped
            if task.group.lead(self.out_of_time):
                return False
            self.one_step(indices)
            if now.step % LOOK_STEPS == 0:
                self.check_loss()
            self.save(only_if_due=True)
            self.meter.at(task.plan.stage, self.done)
        return True

    def awake(self, epoch: int) -> int:
        """Return how many blocks learn in an epoch of this stage: all in its second half."""
        return min(
            len(self.task.cut), 1 + (epoch - 1) * 2 * len(self.task.cut) // self.task.plan.epochs
        )

    def one_step(self, indices: Indices) -> None:
        """Take one optimiser step on a batch."""
        hit("train.step")
        task, now = self.task, self.now
        mine, share = task.group.part(indices)
        recipe.set_rate(self.optimizer, recipe.rate_at(task.plan, self.done, self.steps))
        chosen = torch.from_numpy(mine)
        # A view depends on no other image, so those made in halves are the same.
        views = within(lambda some: task.train.batch(some.numpy(), now.epoch), chosen)
        inputs = task.execution.put(views)
        wanted = task.execution.put(task.train.labels[chosen])
        loss = task.group.sum_gradients(task.model, self.gradients(inputs, wanted, share))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.total += loss * len(indices)
        now.seen += len(indices)
        now.step += 1
        if self.average:
            self.average.follow(task.model, self.done)

    def gradients(self, inputs: Tensor, wanted: Tensor, share: float) -> Tensor:
        """Leave `share` of the mean gradient of a batch in the weights; return as much of its loss.

        When memory runs out, the batch is cut into smaller parts whose gradients add up to its own.
        """
        task, now = self.task, self.now
        if self.fresh:
            self.parts.remember()
        while True:
            torch.manual_seed(step_seed(task.seed, now.epoch, now.step, task.group.rank))
            self.optimizer.zero_grad(set_to_none=True)
            loss = torch.zeros_like(self.total)
            try:
                mixed = self.mix(inputs, wanted)
                for images, labels in parts_of(*mixed, self.parts.count):
                    loss += self.backward(images, labels, share * (len(labels) / len(wanted)))
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
            else:
                self.fresh = False
                self.parts.forget()
                return loss
            # Outside of `except`, where the error would keep the tensors of the step alive.
            self.optimizer.zero_grad(set_to_none=True)
            self.halve(len(wanted))

    def backward(self, inputs: Tensor, wanted: Tensor, share: float) -> Tensor:
        """Add `share` of the mean gradient of some images; return as much of their loss."""
        task = self.task
        with task.execution.autocast():
            logits, others = logits_of(task.model(inputs))
        loss = self.loss(logits, wanted)
        objective = loss
        for weight, other in zip(task.auxiliary, others, strict=False):
            objective = objective + weight * self.loss(other, wanted)
        self.scaler.scale(share * objective).backward()  # type: ignore[no-untyped-call] # torch says no type.
        return share * loss.detach()

    def halve(self, images: int) -> None:
        """Take batches in smaller parts from now on, and say so."""
        now, exact = self.now, self.parts.halve(images)
        now.parts = self.parts.count
        words = f"Memory ran out: batches of {images} images are taken in {now.parts} parts"
        words += " whose gradients are added up; the steps and their sizes stay the same."
        if counts_batches(self.task.model):
            words += " Batch normalisation sees the smaller parts, so the result differs a little."
        self.run.events.note("batch_halved", words)
        if not exact:
            now.inexact.append(f"memory ran out in step {now.step} of epoch {now.epoch}")

    def visits(self, epoch: int) -> Indices:
        """Return the samples of an epoch in the order of their visits."""
        if self.task.plan.imbalance == "weighted_sampling":
            return drawn(self.task.seed, epoch, self.weights)
        return order(self.task.seed, epoch, len(self.task.train.labels))

    def close_epoch(self, seconds: float, images: int) -> None:
        """Validate, record the epoch and keep its weights when they are the best so far.

        `images` were seen in these `seconds`; the others of the epoch in an earlier attempt.
        """
        hit("train.epoch")
        now, plan, val = self.now, self.task.plan, self.task.val
        self.check_loss()
        rate = recipe.rate_at(plan, self.done - 1, self.steps)
        record = {
            "epoch": now.epoch,
            "stage": plan.stage,
            "train_loss": float(self.total) / now.seen,
            "lr": rate,
        }
        if val is not None:
            scores = metrics.quick(*self.validate(val))
            record |= {f"val_{name}": value for name, value in scores.items()}
            self.check_loss(scores["loss"])
        speed = {
            "seconds": round(seconds, 3),
            "images_per_second": round(images / max(seconds, 1e-9), 1),
        }
        self.run.events.finished_epoch({**record, **speed})
        now.history.append(record)
        metric = "train_loss" if val is None else f"val_{plan.selection_metric}"
        if not now.best or _score(record, metric) > _score(now.best, metric):
            now.best = {**record, "metric": metric}
            self.best = _copy(self.judged)
        now.step = now.seen = 0
        self.total.zero_()

    def check_loss(self, *values: float) -> None:
        """Raise LossDiverged when the epoch's training loss, or a value, is no finite number."""
        if not all(math.isfinite(value) for value in (float(self.total), *values)):
            raise LossDiverged(f"The loss is no longer a finite number in epoch {self.now.epoch}.")

    @torch.inference_mode()
    def validate(self, source: Source) -> tuple[Tensor, Tensor]:
        """Return logits and labels of a split, as float32 on the CPU."""
        task, size = self.task, len(source.labels)
        task.group.share_buffers(self.judged)
        self.judged.eval()
        logits = torch.zeros(size, task.classes)
        parts = batches(np.arange(size), EVALUATION_BATCH)
        for number in task.group.own(len(parts)):
            indices = parts[number]
            logits[torch.from_numpy(indices)] = within(self.logits, source.batch(indices, 0))
            self.run.events.alive()
            if self.run.stopping:  # The epoch's steps are saved; its validation is done again.
                self.save()
                raise Stopped
        return task.group.gathered(logits), source.labels

    def logits(self, batch: Tensor) -> Tensor:
        """Return the logits of inputs, as float32 on the CPU."""
        with self.task.execution.autocast():
            result: Tensor = self.judged(self.task.execution.put(batch))
        return result.float().cpu()

    def no_gain(self) -> bool:
        """Tell whether patience has run out."""
        patience, now = self.task.plan.patience, self.now
        if patience is None or now.epoch - max(now.best["epoch"], self.earlier) < patience:
            return False
        words = f"No better {now.best['metric']} for {patience} epochs."
        self.run.events.note("early_stopped", words)
        return True

    def out_of_time(self) -> bool:
        """Tell whether the time limit is reached; raises TimeLimitReached without any epoch."""
        deadline = self.task.deadline
        if not deadline.reached:
            return False
        if not self.now.best:
            deadline.check()
        words = f"Stopped after {deadline.spent / 60:.3g} minutes, in epoch {self.now.epoch}."
        self.run.events.note("time_limit_reached", words)
        return True

    def save(self, *, only_if_due: bool = False) -> None:
        """Write a checkpoint; at an epoch's end or every minute, at most 2 % of the time."""
        if self.task.group.rank:
            return
        began = time.monotonic()
        wait = SAVE_SHARE * self.save_cost
        if self.now.step:
            wait = max(SAVE_SECONDS, wait)
        if only_if_due and began - self.saved < wait:
            return
        self.now.scaler = self.scaler.state_dict()
        resume.save(
            self.folder,
            self.done,
            self.key,
            asdict(self.now),
            self.models,
            self.optimizer,
            self.total,
            self.best,
        )
        self.saved = time.monotonic()
        self.save_cost = self.saved - began


def _copy(model: nn.Module) -> Tensors:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _score(record: dict[str, Any], metric: str) -> tuple[float, float]:
    """Return what the best epoch has most of; the smaller loss decides between equals.

    On a few hundred images many epochs reach the same accuracy.
    """
    loss = record.get("val_loss", record["train_loss"])
    return (-record[metric] if metric.endswith("loss") else record[metric], -loss)
