"""Named points where a test makes a process die, hang or fail; nothing happens unless asked for.

`TOPWORK_FAILPOINTS` is a comma-separated list of `NAME=ACTION[@VISIT][?FILE]`. ACTION is `kill`
(SIGKILL to this process), `stop` (SIGSTOP, so until somebody continues it), `hang` (this thread,
for ever) or the name of an errno such as `ENOSPC`, which is raised as OSError. It happens at the
given visit of the point in this process, the first if none is given. With FILE it happens in one
process only: in the first that can create the file.

Modelled on the failpoints of etcd (gofail).
"""

import errno
import os
import re
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TOPWORK_FAILPOINTS"
POINTS = frozenset(
    {
        "upload.written",  # A piece of a resumable upload: written, not yet on disk.
        "upload.synced",  # On disk, not yet answered.
        "stage.begin",  # A job is claimed; nothing that it needs is here yet.
        "ingest.after_image",  # One more image is in its shard, or in the buffer before it.
        "durable.before_sync",  # Every durable small file: written, not yet on disk.
        "durable.before_rename",
        "durable.after_rename",
        "cache.allocate",  # Before the space of a file of decoded images or features is taken.
        "cache.after_part",  # Some more rows of it are written.
        "checkpoint.between_files",  # The best weights are saved, the step that names them is not.
        "checkpoint.before_removal",  # A new checkpoint is there, and one too many old ones.
        "checkpoint.after_removal",
        "events.before_append",
        "events.after_append",
        "result.before_rename",  # The result is built and synced, under its temporary name.
        "result.after_rename",
        "train.step",  # Before each optimiser step.
        "train.epoch",  # All steps of an epoch are done, its validation is not.
        "evaluate.split",  # A model is finished; a split that did not train it is to be answered.
        "predict.after_part",  # Some more answers of a batch are kept.
        "db.before_ring",  # Work is committed, nobody was told.
        "api.before_answer",  # A request's transaction is committed, its answer is not sent.
        "storage.between_checkpoints",  # Files of a checkpoint are stored, no row names them.
        "storage.between_files",  # One object of a publication is stored, others are to come.
        "publish.before_commit",  # All are stored; rows are written, not committed.
        "publish.after_commit",  # A version and its job's success are there, together.
        "garbage.before_delete",  # Orphans are known; the transaction that deletes is to come.
    }
)
_ORDER = re.compile(r"(?P<name>[\w.]+)=(?P<action>\w+)(?:@(?P<visit>\d+))?(?:\?(?P<once>.+))?")


@dataclass
class _Order:
    """What happens at one point; `left` visits before it does."""

    action: str
    left: int
    once: Path | None


def _orders(text: str) -> dict[str, _Order]:
    """Read the variable.

    Raises:
        ValueError: It is malformed or names no point; a test must not pass by a misspelling.
    """
    orders = {}
    for part in filter(None, text.split(",")):
        found = _ORDER.fullmatch(part)
        if found is None or found["name"] not in POINTS:
            raise ValueError(f"{VARIABLE} has no meaning here: {part}")
        once = Path(found["once"]) if found["once"] else None
        orders[found["name"]] = _Order(found["action"], int(found["visit"] or 1), once)
    return orders


_active = _orders(os.environ.get(VARIABLE, ""))


def hit(name: str) -> None:
    """Do what was ordered for this point, usually nothing.

    Raises:
        OSError: An errno was ordered.
    """
    if not _active:
        return
    order = _active.get(name)
    if order is None:
        return
    order.left -= 1
    if order.left != 0 or (order.once is not None and not _first(order.once)):
        return
    if order.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if order.action == "stop":
        # Sent to the process, another thread may take it while this one goes on a little further.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return
    if order.action == "hang":
        while True:
            time.sleep(60)
    code: int = getattr(errno, order.action)
    raise OSError(code, os.strerror(code), f"failpoint {name}")


def _first(file: Path) -> bool:
    """Tell whether no process was here before."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
