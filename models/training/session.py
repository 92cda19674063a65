"""A training run as one object: what it trains, scores and publishes, each part for itself."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute.execution import choose
from models.data.cache import Cache
from models.data.dataset import Sample, StagedDataset, labels_of
from models.evaluation import engine_choice
from models.evaluation.calibrate import calibrate
from models.evaluation.evaluate import Evaluation, Said, evaluate, held_out_outputs
from models.inference import artefact
from models.inference.classifier import Classifier
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.planning.request import TrainRequest
from models.training import head_stage, initial_model, preflight, rejecting, stages
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.fit import Fit, Trained
from models.training.linear_head import Answers


@dataclass(frozen=True)
class Session:
    """A request and its images, ready to be fitted once or several times.

    Attributes:
        plan: What was asked for, every `auto` resolved.
        group: The processes that train together; rank 0 alone evaluates and writes.
    """

    run: RunDir
    request: TrainRequest
    dataset: StagedDataset
    plan: Plan
    group: Group
    deadline: Deadline

    @classmethod
    @contextlib.contextmanager
    def open(cls, run: RunDir, request: TrainRequest, dataset: StagedDataset) -> Iterator[Self]:
        """Make the plan, and let the other ranks train along until the context is left."""
        architecture = catalogue.get(request.config.architecture)
        told = {key: dataset.summary.get(key) for key in ("drawn", "shapes", "sixteen_bit")}
        summary = {**told, "classes": dataset.classes, "counts": dataset.counts()}
        plan = resolve(request.config, architecture, summary, *initial_model.parent_sees(request))
        with Group(run, plan.devices) as group:
            deadline = Deadline(run, None if group.rank else plan.max_minutes)
            run.events.emit("plan", plan=plan.to_json())
            note_gaps(run, dataset)
            yield cls(run, request, dataset, plan, group, deadline)

    def prepare(self, plan: Plan, name: str = "") -> Fit:
        """Build the network and decide how its first stage computes; see that the disk has room.

        Raises:
            DiskFull: It has not.
        """
        run, request, dataset = self.run, self.request, self.dataset
        usual = choose(plan, deterministic=request.config.deterministic)
        with self.group.in_turn():
            network = initial_model.build(run, request, plan, dataset.classes)
        need = preflight.needed(network.model, network.heads.main, plan.stages()[-1])
        fit = Fit(
            run,
            request,
            dataset,
            network,
            usual,
            cache=self._cache(need),
            meter=Meter(run.events, stages.shares(plan, dataset)),
            deadline=self.deadline,
            group=self.group,
            checkpoint=run.checkpoint / name,
        ).measured(plan)
        fit.announce(plan)
        if not self.group.rank:
            preflight.check(run, need, self._shared)
        run.check_stop()
        return fit

    def fit(self, plan: Plan, name: str = "") -> Trained:
        """Train as planned, from the first weights on.

        Of several fits of a session each has a `name`, under which its checkpoints lie.
        """
        fit = self.prepare(plan, name)
        self.run.events.phase("training")
        trained = stages.train(fit, plan)
        fit.network.finish()
        return trained

    def evaluate(self, trained: Trained) -> Evaluation:
        """Score what was trained on the held-out images, by the path that serves it."""
        fit, events = trained.fit, self.run.events
        self.deadline.lift()
        events.phase("evaluating")
        known = head_stage.held_out_outputs(trained)
        outputs = self._ask(fit, fit.network.classifier(), known)
        logits = {split: said.logits for split, said in outputs.items()}
        events.phase("calibrating")
        learned = head_stage.learned_from(trained)
        folds = head_stage.out_of_fold(trained, learned)
        if trained.unseen is not None:
            logits["val"] = trained.unseen["val"]
        evidence = spoken = None
        if folds is not None:
            spoken, logits = self._joined(logits, folds)
            evidence = spoken[1], labels_of(spoken[0])
        elif "val" in logits:
            evidence = logits["val"], self.dataset.labels("val")
        calibration = calibrate(*(evidence or (None, self.dataset.labels("val"))))
        if calibration.reason:
            words = f"Confidences stay as they are: {calibration.reason}."
            events.note("not_calibrated", words)
        abstention = rejecting.fit(trained, learned, outputs, logits, folds, calibration)
        if abstention.reason:
            events.note("never_abstains", f"Every answer is accepted: {abstention.reason}.")
        evaluation = evaluate(
            self.dataset,
            logits,
            calibration,
            seed=fit.seed,
            evidence=evidence,
            outputs=outputs,
            folds=spoken,
            abstention=abstention,
        )
        if words := evaluation.suspects.words():
            events.note("images_suspected", words)
        return evaluation

    def _joined(
        self, logits: Mapping[str, Tensor], folds: Answers
    ) -> tuple[tuple[list[Sample], Tensor], dict[str, Tensor]]:
        """Return every image that somebody answered for unseen, with the logits, and the splits'.

        Where folds speak for validation images, these count; their heads have seen more.
        """
        train, val = self.dataset.splits["train"], self.dataset.splits["val"]
        training = folds.images < len(train)
        samples = [train[number] for number in folds.images[training].tolist()]
        rows = logits.get("val", torch.empty(0, folds.logits.shape[1])).clone()
        rows[folds.images[~training] - len(train)] = folds.logits[~training]
        spoken = [*samples, *val], torch.cat([folds.logits[training], rows])
        return spoken, {**logits, **({"val": rows} if val else {})}

    def write(self, trained: Trained, evaluation: Evaluation) -> None:
        """Publish the network with all that is known of it as the result of the run."""
        self.run.events.phase("publishing")
        folder = self.run.begin_result()
        evaluation.write(folder, self.dataset)
        epochs, best = trained.progress.history, trained.progress.best
        history = json.dumps({"epochs": epochs, "best": best}, sort_keys=True)
        (folder / "history.json").write_text(history, encoding="utf-8")
        scores = {
            "metrics": {**evaluation.headlines(), "best": best},
            "calibration": evaluation.fitted(),
            "rejection": evaluation.abstention.stated(),
            "suspects": evaluation.suspects.stated(),
        }
        fit, rejection = trained.fit, evaluation.abstention.rejection

        def engine() -> artefact.Card:
            chosen = engine_choice.choose(
                folder,
                fit.network,
                evaluation.calibration,
                evaluation.outputs or {},
                lambda classifier: self._ask(fit, classifier),
                evaluation.abstention,
            )
            for name, reason in chosen["refused"].items():
                words = f"{name} does not serve this model, as {reason}. {chosen['name']} does."
                self.run.events.note("engine_refused", words)
            return {"engine": chosen}

        artefact.write(folder, fit.network.model, trained.card() | scores, engine, rejection)
        shutil.rmtree(self.run.path / "cache", ignore_errors=True)
        self.run.publish_result(folder)

    def _ask(
        self, fit: Fit, classifier: Classifier, known: Mapping[str, Said] | None = None
    ) -> dict[str, Said]:
        return held_out_outputs(
            self.run,
            self.dataset,
            classifier,
            threads=fit.execution.threads,
            meter=fit.meter,
            known=known,
        )

    @property
    def _shared(self) -> Path | None:
        """The folder of decoded images and features that outlives the run."""
        return self.request.cache_dir / "arrays" if self.request.cache_dir else None

    def _cache(self, spare: int) -> Cache:
        """Return where decoded images and features lie: on this machine, or in the run's folder."""

        def between() -> None:
            self.run.events.alive()
            self.run.check_stop()
            self.deadline.check()

        shared = self._shared if self.request.cache_bytes else None
        return Cache(self.run.path / "cache", between, shared, self.request.cache_bytes, spare)


def note_gaps(run: RunDir, dataset: StagedDataset) -> None:
    """Say what the data lacks."""
    if not dataset.splits["val"]:
        words = "There are no validation images: the epoch with the smallest training loss is kept."
        run.events.note("no_validation_images", words)
    counts = dataset.counts()
    for split in ("train", "val"):
        missing = [name for name in dataset.classes if name not in counts.get(split, {})]
        if missing and dataset.splits[split]:
            words = f"{len(missing)} classes have no image in {split}: {', '.join(missing[:5])}."
            run.events.note(f"class_missing_in_{split}", words)
