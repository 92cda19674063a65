"""Warm starts: imports are paid once, and whatever is wrong with a forkserver, the child starts."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import wait_for
from tests.worker.conftest import runs
from worker.process import prefork
from worker.process.job_process import Ending, Process
from worker.process.prefork import WarmStart

HEAVY = "from pathlib import Path\nwith Path({path!r}).open('a') as f: f.write('imported\\n')\n"
CHILD = """\
import json, os, random, sys
from pathlib import Path
import heavy
import numpy

if __name__ == "__main__":
    run_dir = Path(sys.argv[1])
    said = {"environment": dict(os.environ), "draw": random.random(),
            "threads": len(os.listdir("/proc/self/task")), "files": sorted(
                int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")
            ), "session": os.getsid(0), "niceness": os.nice(0),
            "stdin": os.readlink("/proc/self/fd/0")}
    (run_dir / "said.json").write_text(json.dumps(said))
    (run_dir / "result").mkdir()
"""
Modules = Callable[..., Path]


@pytest.fixture
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put `light_child`, which imports `heavy`, on the children's path; the log of imports."""
    monkeypatch.setattr(prefork, "FIRST_PAUSE", 0.05)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    path = tmp_path / "imports"
    (tmp_path / "heavy.py").write_text(HEAVY.format(path=str(path)))
    (tmp_path / "light_child.py").write_text(CHILD)
    return path


def run(
    tmp_path: Path, forkserver: WarmStart | None, module: str = "light_child"
) -> tuple[bool, Path]:
    """Run a child to its good end; return whether it started warm, and its folder."""
    run_dir = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
    run_dir.mkdir()
    until = time.monotonic() + 600
    with Process(module, run_dir, good_until=until, threads=3, warm=forkserver) as process:
        ended = wait_for(lambda: process.wait(0.05))
        assert ended.ending is Ending.DONE, (run_dir / "log.txt").read_text()
    return process.warm, run_dir


def ready(forkserver: WarmStart) -> int:
    return wait_for(lambda: forkserver.pid) or 0


def test_a_warm_child_imports_nothing_again(tmp_path: Path, imports: Path) -> None:
    with WarmStart(["light_child"], threads=3) as forkserver:
        ready(forkserver)
        assert [run(tmp_path, forkserver)[0] for _ in range(3)] == [True] * 3
        assert imports.read_text() == "imported\n"
        assert not run(tmp_path, None)[0]
        assert imports.read_text() == "imported\n" * 2


def test_a_warm_child_is_what_a_cold_one_is(
    tmp_path: Path, imports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_ADMIN_KEY", "hidden")
    assert not imports.exists()
    with WarmStart(["light_child"], threads=3) as forkserver:
        ready(forkserver)
        told = []
        for source in (forkserver, forkserver, None):
            started_warm, run_dir = run(tmp_path, source)
            assert started_warm is (source is not None)
            assert (run_dir / "log.txt").read_text() == ""
            told.append(json.loads((run_dir / "said.json").read_text()))
        assert len({one.pop("draw") for one in told}) == 3
        assert len({one.pop("session") for one in told}) == 3
        assert told[0] == told[1] == told[2]
    assert told[0]["environment"]["OMP_NUM_THREADS"] == "3"
    assert told[0]["environment"]["GOMP_SPINCOUNT"] == "0"
    assert told[0]["niceness"] == min(os.nice(0) + 10, 19)
    assert (told[0]["threads"], told[0]["stdin"]) == (1, os.devnull)
    assert "hidden" not in told[0]["environment"].values()


def test_other_pools_and_other_modules_start_cold(tmp_path: Path, imports: Path) -> None:
    with WarmStart(["heavy"], threads=3) as forkserver:
        ready(forkserver)
        assert imports.exists()
        assert not run(tmp_path, forkserver)[0]
    with WarmStart(["light_child"], threads=1) as forkserver:
        ready(forkserver)
        assert not run(tmp_path, forkserver)[0]


def test_a_forkserver_that_died_is_replaced(tmp_path: Path, imports: Path) -> None:
    with WarmStart(["light_child"], threads=3) as forkserver:
        first = ready(forkserver)
        os.kill(first, signal.SIGKILL)
        run(tmp_path, forkserver)  # Cold or, if the next one was quick, warm.
        second = wait_for(lambda: (pid := forkserver.pid) != first and pid)
        assert run(tmp_path, forkserver)[0]
    assert not runs(int(second))
    assert imports.exists()


def test_a_frozen_forkserver_is_given_up(
    tmp_path: Path, imports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefork, "ANSWER_SECONDS", 0.2)
    with WarmStart(["light_child"], threads=3) as forkserver:
        frozen = ready(forkserver)
        os.kill(frozen, signal.SIGSTOP)
        assert not run(tmp_path, forkserver)[0]
        wait_for(lambda: not runs(frozen))
        wait_for(lambda: forkserver.pid)
        assert run(tmp_path, forkserver)[0]
    assert imports.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=[60]).start()\n",
            "2 threads",
        ),
        ("raise RuntimeError('broken')\n", "broken"),
    ],
)
def test_an_unfit_forkserver_forks_nothing(
    tmp_path: Path,
    imports: Path,
    capfd: pytest.CaptureFixture[str],
    text: str,
    reason: str,
) -> None:
    (tmp_path / "unfit.py").write_text(text)
    with WarmStart(["light_child", "unfit"], threads=3) as forkserver:
        said = ""

        def tried() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return reason in said

        wait_for(tried)
        assert not run(tmp_path, forkserver)[0]
    assert imports.exists()
