"""A child that fills more memory than it may have: `{"how": "python" or "numpy"}`.

RLIMIT_AS stands for a machine without memory: the allocation fails where the child can say so.
"""

import resource
import sys

import numpy as np

from core.system.run_dir import RunDir, supervise

LIMIT = 1024**3


def eat(run: RunDir) -> None:
    run.events.phase("training")
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    piece = LIMIT // 8
    kept: list[object] = []
    while True:
        kept.append(np.ones(piece, np.uint8) if b"numpy" in run.request() else b"x" * piece)


if __name__ == "__main__":
    sys.exit(supervise(eat, sys.argv[1:]))
