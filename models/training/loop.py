"""The training loop: linear, the same for a head on cached features and for a whole network.

Everything random is a function of (seed, epoch, step or sample) and the learning rate one of the
step, so the state to resume from is the weights, the optimiser's moments and a few counters. Not
one number of the result depends on the time or on where a run was interrupted.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.system.failpoints import hit
from core.system.run_dir import Stopped
from models.compute.memory import within
from models.data.dataset import batch_count, batches
from models.data.randomness import drawn, order
from models.data.sources import Indices, Source
from models.evaluation import metrics
from models.networks import blocks
from models.networks.blocks import Block
from models.networks.loading import load_tensors
from models.planning.plan import Plan
from models.training import choice, preflight, recipe
from models.training.checkpoint import Tensors
from models.training.ema import Average
from models.training.fit import Fit
from models.training.gradients import Gradients
from models.training.resume import Checkpoints, Progress
from topwork.errors import LossDiverged, OutOfMemory

EVALUATION_BATCH = 64
LOOK_STEPS = 25  # Reading the loss stalls a GPU, so not every step.


class Loop:
    """The epochs of one stage, resumed from the newest whole checkpoint.

    `heads` names the layers of the model that learn at the full rate, `auxiliary` are the factors
    of the losses of auxiliary heads in their order, `cut` the trunk's blocks where they learn one
    after the other. What the stage `before` this one reached is to be beaten.
    """

    def __init__(
        self,
        fit: Fit,
        plan: Plan,
        model: nn.Module,
        train: Source,
        val: Source | None,
        *,
        heads: tuple[str, ...],
        auxiliary: tuple[float, ...] = (),
        cut: Sequence[Block] = (),
        before: Progress | None = None,
    ) -> None:
        self.fit, self.plan, self.model, self.train, self.val = fit, plan, model, train, val
        self.cut, self.before = cut, before
        self.earlier = len(before.history) if before else 0
        self.steps = batch_count(len(train.labels), plan.batch_size)
        self.optimizer = recipe.optimizer(plan, model, heads, cut)
        self.total = torch.zeros((), device=fit.execution.device)
        models = {"model": model}
        self.average = None
        if plan.ema is not None:
            self.average = Average(model, plan.ema)
            models["average"] = self.average.model
        self.judged = models.get("average", model)
        folder, size = fit.checkpoint / plan.stage, preflight.checkpoint_bytes(model, plan)
        self.checkpoints = Checkpoints(
            fit.run, folder, fit.key(plan), models, self.optimizer, self.total, size
        )
        with fit.group.in_turn():
            restored = self.checkpoints.load()
        self.progress, self.best = restored or self.first()
        self.gradients = Gradients(fit, plan, model, train.labels, auxiliary, self.progress)

    def first(self) -> tuple[Progress, Tensors]:
        """Return the state before the first step."""
        before = self.before
        if before is None:
            return Progress(), {}
        history = list(before.history)
        start = replace(
            before, epoch=len(history) + 1, step=0, seen=0, finished=False, parts=1, history=history
        )
        return start, _copy(self.model)

    def run(self) -> Progress:
        """Train to the end and leave the best epoch's weights in the model."""
        progress = self.progress
        while not progress.finished:
            began, before = time.monotonic(), progress.seen
            try:
                complete = self.epoch()
                if complete:
                    self.close_epoch(time.monotonic() - began, progress.seen - before)
            except (LossDiverged, OutOfMemory) as error:
                # All ranks see the same loss; out of memory runs one alone, and the others wait.
                alone = isinstance(error, OutOfMemory) and self.fit.group.size > 1
                if self.before is None or alone:
                    raise
                words = f"{error.message} What was reached before is kept."
                self.fit.run.events.note(error.code, words)
                complete = False
            last = progress.epoch - self.earlier >= self.plan.epochs
            progress.finished = not complete or last or self.no_gain()
            progress.epoch += complete
            # An end that hangs on time or memory may not be reached twice; any other one is.
            certain = complete and self.fit.deadline.minutes is None
            self.save(only_if_due=certain or not progress.finished)
        load_tensors(self.model, self.best)
        return progress

    def epoch(self) -> bool:
        """Visit every sample once; False when the time limit cut the epoch short."""
        fit, plan, progress = self.fit, self.plan, self.progress
        self.model.train()
        if self.cut:
            blocks.learn(self.model, self.cut, self.awake())
        if plan.batch_norm == "frozen":
            recipe.freeze_batch_norm(self.model)
        for indices in batches(self.visits(progress.epoch), plan.batch_size)[progress.step :]:
            if fit.group.lead(lambda: fit.run.stopping):
                self.save()
                raise Stopped
            if fit.group.lead(self.out_of_time):
                return False
            self.step(indices)
            if progress.step % LOOK_STEPS == 0:
                self.check_loss()
            self.save(only_if_due=True)
            fit.meter.at(plan.stage, self.steps_done)
        return True

    def step(self, indices: Indices) -> None:
        """Take one optimiser step on a batch."""
        hit("train.step")
        fit, progress = self.fit, self.progress
        own, share = fit.group.part(indices)
        recipe.set_rate(self.optimizer, recipe.rate_at(self.plan, self.steps_done, self.steps))
        chosen = torch.from_numpy(own)
        # A view depends on no other image, so those made in halves are the same.
        views = within(lambda some: self.train.batch(some.numpy(), progress.epoch), chosen)
        inputs = fit.execution.put(views)
        labels = fit.execution.put(self.train.labels[chosen])
        loss = fit.group.sum_gradients(self.model, self.gradients.leave(inputs, labels, share))
        self.gradients.scaler.step(self.optimizer)
        self.gradients.scaler.update()
        self.total += loss * len(indices)
        progress.seen += len(indices)
        progress.step += 1
        if self.average:
            self.average.follow(self.model, self.steps_done)

    def close_epoch(self, seconds: float, images: int) -> None:
        """Validate, record the epoch and keep its weights when they are the best so far.

        `images` were seen in these `seconds`; the others of the epoch in an earlier attempt.
        """
        hit("train.epoch")
        progress, plan = self.progress, self.plan
        self.check_loss()
        record = {
            "epoch": progress.epoch,
            "stage": plan.stage,
            "train_loss": float(self.total) / progress.seen,
            "lr": recipe.rate_at(plan, self.steps_done - 1, self.steps),
        }
        metric = "train_loss"
        if self.val is not None:
            metric = f"val_{plan.selection_metric}"
            scores = metrics.quick(self.validate(self.val), self.val.labels)
            record |= {f"val_{name}": value for name, value in scores.items()}
            self.check_loss(scores["loss"])
        speed = {
            "seconds": round(seconds, 3),
            "images_per_second": round(images / max(seconds, 1e-9), 1),
        }
        self.fit.run.events.finished_epoch({**record, **speed})
        progress.history.append(record)
        if self.better(record, metric):
            progress.best = {**record, "metric": metric}
            self.best = _copy(self.judged)
        progress.step = progress.seen = 0
        self.total.zero_()

    def better(self, record: dict[str, Any], metric: str) -> bool:
        """Tell whether the epoch that is the last of the history is kept.

        A head on fixed features has one optimum, which its last steps come closest to.
        """
        if not self.progress.best or self.plan.mode == "head":
            return True
        seen = self.progress.history[self.earlier : -1]
        images = len(self.val.labels) if self.val is not None else 0
        return choice.better(record, self.progress.best, seen, metric=metric, images=images)

    @torch.inference_mode()
    def validate(self, source: Source) -> Tensor:
        """Return the logits (n, classes) of a split, as float32 on the CPU."""
        fit = self.fit
        fit.group.share_buffers(self.judged)
        self.judged.eval()
        logits = torch.zeros(len(source.labels), len(fit.dataset.classes))
        parts = batches(np.arange(len(logits)), EVALUATION_BATCH)
        for number in fit.group.own(len(parts)):
            inputs = source.batch(parts[number], 0)
            logits[torch.from_numpy(parts[number])] = within(self.logits, inputs)
            fit.run.events.alive()
            if fit.run.stopping:  # The epoch's steps are saved; its validation is done again.
                self.save()
                raise Stopped
        return fit.group.gathered(logits)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of inputs, as float32 on the CPU."""
        with self.fit.execution.autocast():
            result: Tensor = self.judged(self.fit.execution.put(inputs))
        return result.float().cpu()

    @property
    def steps_done(self) -> int:
        """Steps of this stage so far."""
        return (self.progress.epoch - 1 - self.earlier) * self.steps + self.progress.step

    def visits(self, epoch: int) -> Indices:
        """Return the samples of an epoch in the order of their visits."""
        seed, labels = self.fit.seed, self.train.labels
        if self.plan.imbalance == "weighted_sampling":
            weights = recipe.class_weights(labels, len(self.fit.dataset.classes))
            return drawn(seed, epoch, weights.numpy())
        return order(seed, epoch, len(labels))

    def awake(self) -> int:
        """Return how many blocks learn in this epoch of the stage: all in its second half."""
        past = self.progress.epoch - self.earlier - 1
        return min(len(self.cut), 1 + past * 2 * len(self.cut) // self.plan.epochs)

    def check_loss(self, *values: float) -> None:
        """Raise LossDiverged when the epoch's training loss, or a value, is no finite number."""
        if not all(math.isfinite(value) for value in (float(self.total), *values)):
            words = f"The loss is no longer a finite number in epoch {self.progress.epoch}."
            raise LossDiverged(words)

    def no_gain(self) -> bool:
        """Tell whether patience has run out."""
        patience, progress = self.plan.patience, self.progress
        if (
            patience is None
            or progress.epoch - max(progress.best["epoch"], self.earlier) < patience
        ):
            return False
        words = f"No better {progress.best['metric']} for {patience} epochs."
        self.fit.run.events.note("early_stopped", words)
        return True

    def out_of_time(self) -> bool:
        """Tell whether the time limit is reached; raises TimeLimitReached without any epoch."""
        deadline = self.fit.deadline
        if not deadline.reached:
            return False
        if not self.progress.best:
            deadline.check()
        words = f"Stopped after {deadline.spent / 60:.3g} minutes, in epoch {self.progress.epoch}."
        self.fit.run.events.note("time_limit_reached", words)
        return True

    def save(self, *, only_if_due: bool = False) -> None:
        """Write a checkpoint, now or if one is due; rank 0 does so for all."""
        inside = bool(self.progress.step)
        if self.fit.group.rank or (only_if_due and not self.checkpoints.due(inside=inside)):
            return
        self.progress.scaler = self.gradients.scaler.state_dict()
        self.checkpoints.save(self.steps_done, self.progress, self.best)


def _copy(model: nn.Module) -> Tensors:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
