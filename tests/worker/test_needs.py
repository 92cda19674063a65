"""A job that is claimed must not be refused for want of the disk that the claim looked for."""

from dataclasses import replace

import pytest
from torch import nn

from core.store.resources import Resources
from core.store.tables import Job
from models.networks import zoo
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.training import preflight
from topwork.types.training import TrainConfig
from worker.kinds.finetune import needs

SUMMARY = {"classes": ["a", "b"], "counts": {"train": {"a": 9, "b": 9}}}


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """Every network with its auxiliary heads, for as many classes as the catalogue counts."""
    return {name: zoo.shell(name) for name in catalogue.names()}


def dearest(mode: str) -> Plan:
    """Return a plan that keeps the average of the weights and two moments for each."""
    asked = TrainConfig.model_validate({"architecture": "lenet", "weights": "none"})
    planned = resolve(asked, catalogue.get("lenet"), SUMMARY)
    return replace(planned, mode=mode, then=None, optimizer="adamw", ema=0.99)


@pytest.mark.parametrize(
    ("strategy", "mode"), [("full", "full"), ("auto", "full"), ("head", "head")]
)
def test_a_worker_asks_for_no_less_disk_than_the_trainer(
    resources: Resources, networks: dict[str, nn.Module], strategy: str, mode: str
) -> None:
    plan = dearest(mode)
    for name, network in networks.items():
        job = Job(kind="finetune", config={"architecture": name, "strategy": strategy})
        asked = needs(resources, job)
        needed = preflight.needed(network, catalogue.get(name).head, plan)
        assert needed <= asked <= 2 * needed, name
