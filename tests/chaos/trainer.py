"""The trainer under the orders of a test: `python -m tests.chaos.trainer RUN_DIR`.

`orders.json` in RUN_DIR names failpoints, says after how many steps a checkpoint is due and whether
precision and layout are chosen by measuring, which small work is not worth. However busy the
machine, no measured time may leave a later stage out. All must hold for one attempt of a process
that was forked long after its imports, so they cannot come from the environment. What a finished
attempt did is left in `visits.json`: point -> visits; and the most bytes that it took, in `peak`.
"""

import json
import resource
import sys
from pathlib import Path

from core.system import failpoints
from core.system.run_dir import supervise
from models.planning import strategy
from models.train import train
from models.training.loop import Loop
from models.training.precision import workload

NEVER = 10**9
PATIENCE = 1e6  # Seconds that may be planned for a stage after the head.


def main(run_dir: Path) -> int:
    orders = json.loads((run_dir / "orders.json").read_text())
    watched = {point: f"{point}=kill@{NEVER}" for point in failpoints.POINTS}
    active = failpoints._orders(",".join(watched.values()))
    failpoints._active = active | failpoints._orders(orders["failpoints"])
    save_every(orders["save_every"])
    strategy.DEFAULT_BUDGET = PATIENCE
    if orders["measured"]:
        workload.WORTH_SECONDS = 0.0
    code = supervise(train, [str(run_dir)], resumable=True)
    visits = {point: NEVER - order.left for point, order in active.items()}
    (run_dir / "visits.json").write_text(json.dumps(visits))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (run_dir / "peak").write_text(str(peak))
    return code


def save_every(steps: int) -> None:
    """Make a checkpoint due by the number of steps instead of by the clock."""
    plain = Loop.save

    def save(loop: Loop, *, only_if_due: bool = False) -> None:
        done = (loop.progress.epoch - 1) * loop.steps + loop.progress.step
        if not only_if_due or done % steps == 0:
            plain(loop)

    Loop.save = save  # type: ignore[assignment]  # Its `self` has a name.


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
