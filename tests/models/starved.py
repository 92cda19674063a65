"""Train with little memory: `python -m tests.models.starved RUN_DIR MEBIBYTES`.

So much more than before may be allocated in every step, by the kernel's own limit.
"""

import resource
import sys
from pathlib import Path

from models.data.sources import Indices
from models.training.loop import Loop
from tests.models.running import go


def allocated() -> int:
    """Return the bytes that count against RLIMIT_DATA."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))


def main(run_dir: Path, room: int) -> int:
    """Do the run."""
    plain, free = Loop.step, resource.getrlimit(resource.RLIMIT_DATA)

    def one_step(stage: Loop, indices: Indices) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (allocated() + room, free[1]))
        try:
            plain(stage, indices)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, free)

    Loop.step = one_step  # type: ignore[assignment]  # Its `self` has a name.
    return go(run_dir)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) << 20))
