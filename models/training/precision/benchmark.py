"""Precision benchmark: a few timed steps of each candidate, and the answer remembered.

Each candidate starts from the same weights, images and random numbers on a copy of the network, so
nothing of the benchmark remains but its verdict.
"""

import copy
import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from core.system.run_dir import RunDir
from models.compute.execution import Execution, as_asked
from models.networks.fold import folded
from models.training.precision.memory import Memory, Verdict
from models.training.precision.timing import Trials
from models.training.precision.verdict import judge
from models.training.precision.workload import Workload

SHARE, MOST_SECONDS = 0.05, 15.0  # Of the work, and at most, that measuring may take.
HOPELESS = 1.3  # Times as slow as the fastest: not timed again.
LEAST_IMAGES = 4
STEPS = 6  # Of the plain kind fill the budget: two of each kind that is likely to win.


def decide(usual: Execution, workload: Workload, run: RunDir, cache: Path | None) -> Execution:
    """Return the execution with the precision and the layout that this run uses throughout.

    Args:
        usual: What holds without measuring.
        workload: What would be measured.
        run: Its checkpoint folder keeps the choice for later attempts.
        cache: Folder that keeps it for later runs on this machine, made when needed.
    """
    execution = _decided(usual, workload, run, cache)
    step = 3 * workload.plan.batch_size * workload.network.architecture.gigaops
    if workload.forward or execution.threads_for(step) == execution.threads:
        return execution
    reason = f"{execution.reason}; a step is too small for more than one thread"
    return replace(execution, reason=reason)


def _decided(usual: Execution, workload: Workload, run: RunDir, cache: Path | None) -> Execution:
    if workload.plan.precision is not None:
        return as_asked(usual, workload.network.model)
    if not workload.worth_measuring:
        reason = f"the work is too short to measure what is faster; {usual.reason}"
        return replace(usual, reason=reason)
    memory = Memory(usual, workload, run.checkpoint, cache)
    verdict = memory.recall() or measure(usual, workload)
    memory.keep(verdict)
    return replace(usual, **verdict.choice)


def measure(usual: Execution, workload: Workload) -> Verdict:
    """Time the candidates as far as the time goes, and judge them."""
    started, budget = time.monotonic(), min(MOST_SECONDS, SHARE * workload.seconds)
    plain, *others = workload.candidates(usual)
    model = copy.deepcopy(workload.network.model)
    if workload.forward:
        model = folded(usual.place(model.eval()), workload.network.heads.main)
    else:
        usual.use_threads(workload.gigaops / 2 * workload.plan.batch_size)
    with torch.random.fork_rng():
        trials = Trials(usual, workload, model, LEAST_IMAGES)
        trials.take(plain)
        size = affordable(trials.seconds[plain], budget, workload)
        if size > LEAST_IMAGES:
            trials = Trials(usual, workload, model, size)
            trials.take(plain)
        for candidate in others:
            # The first lap may take twice what it should, as the slowest candidates come last.
            if time.monotonic() - started <= 2 * budget:
                trials.take(candidate)
        # Again, as a short disturbance hits one of two, but only what may still win.
        for candidate in (plain, *others):
            close = trials.seconds.get(candidate, math.inf) < HOPELESS * min(
                trials.seconds.values()
            )
            # What has to be compiled would be compiled again.
            if close and candidate.engine == "torch" and time.monotonic() - started <= budget:
                trials.take(candidate)
    whole = len(trials.seconds) == 1 + len(others) and not trials.lacked_memory
    return Verdict(judge(trials), whole)


def affordable(seconds: float, budget: float, workload: Workload) -> int:
    """Return how many images a trial may have, when LEAST_IMAGES take these seconds.

    What does not depend on the images, like turning weights into bf16, counts too much in a small
    batch: so they are as many as there is time for. If the first trial failed, that is none.
    """
    size = int(budget / STEPS * LEAST_IMAGES / max(seconds, 1e-6))
    return min(size, workload.plan.batch_size, len(workload.dataset.splits["train"]))
