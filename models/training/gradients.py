"""The gradient of a batch, taken in parts where memory asks for it."""

import torch
from torch import Tensor, nn

from core.system.machine import ran_out_of_memory
from models.compute.memory import Parts, counts_batches, parts_of
from models.data.randomness import step_seed
from models.networks.head import logits_of
from models.planning.plan import Plan
from models.training import mixing, recipe
from models.training.fit import Fit
from models.training.resume import Progress


class Gradients:
    """Leaves those of a batch in a model's weights, the same whatever memory there is."""

    def __init__(
        self,
        fit: Fit,
        plan: Plan,
        model: nn.Module,
        labels: Tensor,
        auxiliary: tuple[float, ...],
        progress: Progress,
    ) -> None:
        self.fit, self.model, self.auxiliary, self.progress = fit, model, auxiliary, progress
        classes = len(fit.dataset.classes)
        self.loss = recipe.loss(plan, labels, classes, fit.execution.device)
        self.mix = mixing.planned(plan, classes)
        self.scaler = fit.execution.scaler()
        if progress.scaler:
            self.scaler.load_state_dict(progress.scaler)
        self.parts = Parts(model, progress.parts)
        self.fresh = True  # No step done in this process yet.

    def leave(self, inputs: Tensor, labels: Tensor, share: float) -> Tensor:
        """Leave `share` of the mean gradient of a batch in the weights; return as much of its loss.

        When memory runs out, the batch is cut into smaller parts whose gradients add up to its own.
        """
        epoch, step = self.progress.epoch, self.progress.step
        if self.fresh:
            self.parts.remember()
        while True:
            torch.manual_seed(step_seed(self.fit.seed, epoch, step, self.fit.group.rank))
            self.model.zero_grad(set_to_none=True)
            loss = torch.zeros((), device=inputs.device)
            try:
                mixed = self.mix(inputs, labels)
                for images, targets in parts_of(*mixed, self.parts.count):
                    loss += self._backward(images, targets, share * (len(targets) / len(labels)))
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
            else:
                self.fresh = False
                self.parts.forget()
                return loss
            # Outside of `except`, where the error would keep the tensors of the step alive.
            self.model.zero_grad(set_to_none=True)
            self._halve(len(labels))

    def _backward(self, inputs: Tensor, targets: Tensor, share: float) -> Tensor:
        """Add `share` of the mean gradient of some images; return as much of their loss."""
        with self.fit.execution.autocast():
            logits, others = logits_of(self.model(inputs))
        loss = self.loss(logits, targets)
        objective = loss
        for factor, other in zip(self.auxiliary, others, strict=False):
            objective = objective + factor * self.loss(other, targets)
        self.scaler.scale(share * objective).backward()  # type: ignore[no-untyped-call] # torch says no type.
        return share * loss.detach()

    def _halve(self, images: int) -> None:
        """Take batches in smaller parts from now on, and say so."""
        progress, exact = self.progress, self.parts.halve(images)
        progress.parts = self.parts.count
        words = f"Memory ran out: batches of {images} images are taken in {progress.parts} parts"
        words += " whose gradients are added up; the steps and their sizes stay the same."
        if counts_batches(self.model):
            words += " Batch normalisation sees the smaller parts, so the result differs a little."
        self.fit.run.events.note("batch_halved", words)
        if not exact:
            place = f"step {progress.step} of epoch {progress.epoch}"
            progress.inexact.append(f"memory ran out in {place}")
