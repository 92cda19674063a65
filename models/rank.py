"""A further process of a run on several devices: `python -P -m models.rank RUN_DIR RANK LEADER`.

Rank 0, the process LEADER, starts it. It trains along and ends before the evaluation.
"""

import sys
from pathlib import Path

from core.system.run_dir import attempt
from models.train import train
from models.training.distributed import Member, follow


def main(run_dir: Path, rank: int, leader: int) -> int:
    """Train as this rank; return an exit code of the contract."""
    follow(leader)
    return attempt(train, Member(run_dir, rank))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
