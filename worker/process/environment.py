"""The environment of a job's process and of the forkserver: ours, without secrets."""

import os

from core.system import failpoints

PRIVATE = ("TOPWORK_", "AWS_", "PG")  # A process that decodes strangers' files sees no secrets.


def environment(threads: int) -> dict[str, str]:
    """Return the child's environment: ours without secrets, its thread pools bounded.

    OPENBLAS_NUM_THREADS=1 because numpy's BLAS otherwise starts threads when it is imported, and a
    forkserver must have none. The trainer computes with torch, which has its own.
    """
    mine = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(PRIVATE) or key == failpoints.VARIABLE
    }
    return mine | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }
