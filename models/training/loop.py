"""The training loop: linear, the same for a head on cached features and for a whole network.

Everything random is a function of (seed, epoch, step or sample) and the learning rate one of the
step, so the state to resume from is the weights, the optimiser's moments and a few counters. Not
one number of the result depends on the time or on where a run was interrupted.
"""

import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import LossDiverged
from core.failpoints import hit
from core.meter import Meter
from core.rundir import RunDir, Stopped
from models.data.randomness import drawn, order, step_seed
from models.data.sources import Indices, Source
from models.data.staged import batch_count, batches
from models.evaluation import metrics
from models.networks.head import logits_of
from models.plan import Plan
from models.training import recipe, resume
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.execution import Execution
from models.training.resume import Progress

SAVE_SECONDS = 60.0
SAVE_SHARE = 50  # A save may cost at most one part in so many of the time.
FIRST_SAVE = 0.1  # Seconds that a save is taken to cost until one was measured.
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


class Fit:
    """One run of the loop, resumed from the newest whole checkpoint."""

    def __init__(self, task: Task, run: RunDir, meter: Meter) -> None:
        self.task, self.run, self.meter = task, run, meter
        self.optimizer = recipe.optimizer(task.plan, task.model, task.heads)
        labels = task.train.labels
        self.loss = recipe.loss(task.plan, labels, task.classes, task.execution.device)
        self.weights = recipe.class_weights(labels, task.classes).numpy()
        self.steps = batch_count(len(labels), task.plan.batch_size)
        self.total = torch.zeros((), device=task.execution.device)
        self.key = resume.key(task.plan, task.digest, task.seed, task.execution)
        with task.group.in_turn():
            self.now, self.best = resume.load(run, self.key, task.model, self.optimizer, self.total)
        self.scaler = task.execution.scaler()
        if self.now.scaler:
            self.scaler.load_state_dict(self.now.scaler)
        self.saved = time.monotonic()
        self.save_cost = FIRST_SAVE

    def train(self) -> Progress:
        """Train to the end and leave the best epoch's weights in the model."""
        now = self.now
        while not now.finished:
            began, before = time.monotonic(), now.seen
            complete = self.one_epoch()
            if complete:
                self.close_epoch(time.monotonic() - began, now.seen - before)
            now.finished = not complete or now.epoch >= self.task.plan.epochs or self.no_gain()
            now.epoch += complete
            self.save(only_if_due=not now.finished)
        self.task.model.load_state_dict(self.best)
        return now

    def one_epoch(self) -> bool:
        """Visit every sample once; False when the time limit cut the epoch short."""
        task, now = self.task, self.now
        task.model.train()
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
            self.meter.at("train", (now.epoch - 1) * self.steps + now.step)
        return True

    def one_step(self, indices: Indices) -> None:
        """Take one optimiser step on a batch."""
        hit("train.step")
        task, now = self.task, self.now
        torch.manual_seed(step_seed(task.seed, now.epoch, now.step, task.group.rank))
        mine, share = task.group.part(indices)
        done = (now.epoch - 1) * self.steps + now.step
        recipe.set_rate(self.optimizer, recipe.rate_at(task.plan, done, self.steps))
        inputs = task.execution.put(task.train.batch(mine, now.epoch))
        wanted = task.train.labels[torch.from_numpy(mine)].to(task.execution.device)
        with task.execution.autocast():
            logits, others = logits_of(task.model(inputs))
        loss = self.loss(logits, wanted)
        objective = loss
        for weight, other in zip(task.auxiliary, others, strict=False):
            objective = objective + weight * self.loss(other, wanted)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(share * objective).backward()  # type: ignore[no-untyped-call] # torch says no type.
        loss = task.group.sum_gradients(task.model, share * loss.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.total += loss * len(indices)
        now.seen += len(indices)
        now.step += 1

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
        rate = recipe.rate_at(plan, now.epoch * self.steps - 1, self.steps)
        record = {"epoch": now.epoch, "train_loss": float(self.total) / now.seen, "lr": rate}
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
            state = self.task.model.state_dict()
            self.best = {name: value.detach().clone() for name, value in state.items()}
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
        task.group.share_buffers(task.model)
        task.model.eval()
        logits = torch.zeros(size, task.classes)
        parts = batches(np.arange(size), EVALUATION_BATCH)
        for number in task.group.own(len(parts)):
            indices = parts[number]
            inputs = task.execution.put(source.batch(indices, 0))
            with task.execution.autocast():
                logits[torch.from_numpy(indices)] = task.model(inputs).float().cpu()
            self.run.events.alive()
            if self.run.stopping:  # The epoch's steps are saved; its validation is done again.
                self.save()
                raise Stopped
        return task.group.gathered(logits), source.labels

    def no_gain(self) -> bool:
        """Tell whether patience has run out."""
        patience, now = self.task.plan.patience, self.now
        if patience is None or now.epoch - now.best["epoch"] < patience:
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
        done = (self.now.epoch - 1) * self.steps + self.now.step
        model, optimizer = self.task.model, self.optimizer
        self.now.scaler = self.scaler.state_dict()
        resume.save(
            self.run, done, self.key, asdict(self.now), model, optimizer, self.total, self.best
        )
        self.saved = time.monotonic()
        self.save_cost = self.saved - began


def _score(record: dict[str, float], metric: str) -> tuple[float, float]:
    """Return what the best epoch has most of; the smaller loss decides between equals.

    On a few hundred images many epochs reach the same accuracy.
    """
    loss = record.get("val_loss", record["train_loss"])
    return (-record[metric] if metric.endswith("loss") else record[metric], -loss)
