"""The definition of a kind of job: the module that runs, its inputs, its publication."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.tables import Job
from core.system.command_names import command, where
from core.system.failpoints import hit
from topwork.errors import IntegrityError

Check = Callable[[], None]  # Raises when there is a reason to go no further.


@dataclass(frozen=True)
class Work:
    """One kind of job.

    Args:
        module: What `worker.process.guard` runs.
        stage: Bring the inputs to this machine and return `request.json`.
        publish: Store `result/` and commit it together with the job's success.
        warm: Whether the module's imports are worth a forkserver that has done them before.
        needs: Bytes that a job will write below the data folder, roughly.
        stores: Bytes of what it publishes, roughly.
        keep: Store what an attempt has done that ends without all of it; return file name ->
            {sha256, size}.
    """

    module: str
    stage: Callable[[Resources, Job, Path, Check], dict[str, Any]]
    publish: Callable[[Resources, Job, Path, Check], None]
    warm: bool = False
    needs: Callable[[Resources, Job], int] = lambda _resources, _job: 0
    stores: Callable[[Resources, Job], int] = lambda _resources, _job: 0
    keep: Callable[[Resources, Job, Path], dict[str, Any]] = lambda _resources, _job, _folder: {}


def upload(storage: Storage, folder: Path, prefix: str, check: Check) -> dict[str, Any]:
    """Store the files of a folder, then a manifest; return file name -> {sha256, size}."""
    files = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        check()
        digest = storage.put_hashed(f"{prefix}/{path.name}", path)
        files[path.name] = {"sha256": digest, "size": path.stat().st_size}
        hit("storage.between_files")
    storage.put_bytes(f"{prefix}/manifest.json", json.dumps(files).encode())
    return files


def download(
    resources: Resources, prefix: str, files: Mapping[str, Any], folder: Path, check: Check
) -> None:
    """Fetch the files of an artefact and compare each with its recorded hash.

    Raises:
        IntegrityError: A stored file is not the one that was published.
    """
    for name, facts in files.items():
        check()
        fetch(resources, f"{prefix}/{name}", folder / name, facts["sha256"])


def fetch(resources: Resources, key: str, path: Path, digest: str) -> None:
    """Bring an object to a local file and compare it with its recorded hash.

    Raises:
        IntegrityError: It is not the one that was published.
    """
    if resources.storage.fetch(key, path) != digest:
        raise damaged(resources, key)


def fetch_upload(
    resources: Resources, key: str, job: Job, path: Path, what: str = "images"
) -> None:
    """Bring what was sent for a job to a local file.

    Raises:
        IntegrityError: It is not what was received, where its hash was known then.
    """
    found = resources.storage.fetch(key, path)
    if job.config.get("sha256") not in (None, found):
        message = "the upload is damaged in storage: it is not what was received"
        raise IntegrityError(message, hint=f"Send the {what} again.")


def damaged(resources: Resources, key: str) -> IntegrityError:
    """Return the error for an object that is not as it was published."""
    deep = command("doctor", "--deep", data_dir=resources.settings.data_dir)
    hint = f"Run {deep} {where()} to see what else is damaged, and restore it from a backup."
    return IntegrityError(f"{key} does not match its recorded hash", hint=hint)
