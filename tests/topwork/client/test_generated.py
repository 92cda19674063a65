"""What is written from other files is as they are now, and both clients can do the same."""

import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from topwork import AsyncTopwork, Topwork
from topwork.client.asynchronous.jobs import AsyncJob
from topwork.client.synchronous.jobs import Job

ROOT = Path(__file__).resolve().parents[3]


def test_generated_files_are_current() -> None:
    pages = runpy.run_path(str(ROOT / ".ci/client.py"))["pages"]()
    assert len(pages) == 7
    for path, text in pages.items():
        assert (ROOT / path).read_text() == text, f"{path}: run `make format`"
    assert {Path(path).name for path in pages if "/synchronous/" in path} == {
        path.name for path in (ROOT / "topwork/client/synchronous").glob("[!_]*.py")
    }


def public(thing: object) -> dict[str, object]:
    """Name -> parameters of what a user may call."""
    return {
        name: list(inspect.signature(value).parameters)
        for name, value in inspect.getmembers(thing, inspect.ismethod)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    one, other = Topwork(), AsyncTopwork()
    assert public(one) == public(other)
    for name in ("jobs", "datasets", "models", "keys", "audit"):
        methods = public(getattr(one, name))
        assert methods
        assert methods == public(getattr(other, name))
    mine = {name for name in vars(Job) if not name.startswith("_")}
    assert {"refresh", "wait", "stream", "cancel", "pause", "resume", "retry"} <= mine
    assert mine == {name for name in vars(AsyncJob) if not name.startswith("_")}


CALLS = """
from topwork import AsyncTopwork, Topwork
from topwork.types import Evaluation, Job, Prediction

def waits(topwork: Topwork) -> tuple[Job, Prediction, Evaluation]:
    job = topwork.finetune("pets", architecture="lenet", hyperparameters={"epochs": 3}, seed=1)
    topwork.finetune(dataset="ds_1", architecture="lenet", priority="high", early_stopping=None)
    answers = topwork.predict([b"", "cat.png"], model="pets")
    return job.wait().check(), answers, topwork.models.evaluation("pets", 1)

async def goes_on(topwork: AsyncTopwork) -> Job:
    async for job in topwork.jobs.list(state="queued"):
        await job.cancel()
    return await (await topwork.finetune("pets", architecture="lenet")).wait()
"""
MISTAKES = {
    'Topwork().finetune("pets")': "architecture",
    'Topwork().finetune("pets", architecture="lenet", epochs=3)': "epochs",
    'Topwork().finetune("pets", architecture="lenet", hyperparameters={"epocs": 3})': "epocs",
    'Topwork().finetune("pets", architecture="lenet", strategy="everything")': "strategy",
    'Topwork().plan("pets", architecture="lenet", devices="two")': "devices",
    "Topwork().predict(7)": "predict",
    'Topwork().jobs.get("job_1").stat': "stat",
    'started = AsyncTopwork().finetune("pets", architecture="lenet", lr=1)': "lr",
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says about the calls above; the mistakes stand below them, one on a line."""
    script = tmp_path_factory.mktemp("typed") / "calls.py"
    script.write_text(CALLS + "\n".join(MISTAKES) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(script)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if ": error: " in line]


def test_type_checkers_find_a_wrong_call_and_no_fault_with_right_ones(
    complaints: list[str],
) -> None:
    first = CALLS.count("\n") + 1
    told = {int(line.split(":")[1]): line for line in complaints}
    assert set(told) == set(range(first, first + len(MISTAKES))), "\n".join(complaints)
    for number, word in enumerate(MISTAKES.values(), first):
        assert word in told[number]
