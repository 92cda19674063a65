"""What every test may ask of a service after whatever it did to it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.api.uploads import partial_file, resumable
from app.api.uploads.multipart_archive import remove_abandoned
from core.domain import uploads
from core.ops import garbage, integrity_check, local_cleanup
from core.store.resources import Resources
from tests.app.processes import command_line, given
from tests.waiting import wait_for

LONG_AGO = (0.0, 0.0)
OF_TORCH = "torchinductor_"  # One empty folder for each user, made with torch's import.


def broken(resources: Resources, grace: float = integrity_check.DAY) -> list[str]:
    """Return every invariant that does not hold, in words; the service may be running."""
    found = list(integrity_check.check(resources, grace))
    assert all(violation.to_dict()["fix"] for violation in found)
    return [str(violation) for violation in found]


def broken_after_tidying(resources: Resources) -> list[str]:
    """The same for a service at rest: after one collection nothing at all may be left over."""
    tidy(resources)
    return broken(resources, grace=0.0) + strays(resources)


def tidy(resources: Resources) -> None:
    """Do what each api and worker does now and then, as if the dead had died a week ago."""
    data = resources.settings.data_dir
    for place in ("tmp/*", f"{partial_file.FOLDER}/*", "cache/datasets/.*"):
        for path in data.glob(place):
            os.utime(path, LONG_AGO)
    remove_abandoned(resources.settings)
    resumable.tidy(resources)
    local_cleanup.tidy(resources)
    garbage.collect(resources, 0.0)


def strays(resources: Resources) -> list[str]:
    """Return what lies in the data folder of a service at rest and belongs to nothing there."""
    data, root = resources.settings.data_dir, resources.storage.root
    with resources.database.read() as session:
        known = uploads.lengths(session).keys()
    arrived = {path.name for path in (data / partial_file.FOLDER).glob("*")}
    for name in known:  # Both are there while bytes are unproved.
        arrived -= {f"{name}{partial_file.MARK}", f".{name}{partial_file.MARK}.part"}
    found = [path for place in ("tmp/*", ".*", "cache/*/.*") for path in data.glob(place)]
    if root is not None:
        places = {*garbage.RULES, *(draft.name for draft in resources.storage.drafts(float("inf")))}
        found += [path for path in root.iterdir() if path.name not in places]
    return [
        *(f"{path}: a process has left this" for path in found),
        *(f"upload {name}: no row knows this file" for name in sorted(arrived - known)),
        *(f"upload {name}: its file is gone" for name in sorted(known - arrived)),
    ]


@contextmanager
def own_tmp() -> Iterator[Path]:
    """A short TMPDIR for the processes of one service.

    By it they are known: in the end none may run, and none may have left anything in it.
    """
    folder = Path(tempfile.mkdtemp(prefix="tw-"))
    try:
        yield folder
        with suppress(AssertionError):
            wait_for(lambda: not given("TMPDIR", folder), 10)
        running = [command_line(pid) for pid in given("TMPDIR", folder)]
        assert not running, f"still running: {running}"
        left = [str(path) for path in folder.rglob("*") if not path.name.startswith(OF_TORCH)]
        assert not left, f"left in the TMPDIR: {left}"
    finally:
        for pid in given("TMPDIR", folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)
