"""Check this machine the way a service on it would use it, and name the fix for what is wrong."""

import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.supervisor.valkey import find_server
from core.ops import integrity_check
from core.store.broker import make_celery
from core.store.db import Database
from core.store.migrate import configuration
from core.store.object_store import Storage, StorageUnavailable
from core.store.resources import open_resources
from core.system import disk, json_child
from core.system.child import python, which
from core.system.command_names import command, in_image, install
from core.system.ids import new_id
from core.system.machine import NETWORK, filesystem, memory
from core.system.settings import Settings
from topwork.errors import TopworkError

Status = Literal["ok", "warn", "fail"]
GIGABYTE = 10**9
DISK_LEAST, DISK_COMFORT = 1 * GIGABYTE, 10 * GIGABYTE
MEMORY_COMFORT = 2 * GIGABYTE
OLDEST_PYTHON = (3, 11)
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PROBE = (
    "import torch, torchvision; torch.nn.Linear(2, 2)(torch.ones(1, 2));"
    "from core.system.json_child import answer;"
    "answer(lambda: {'gpus': torch.cuda.device_count() if torch.cuda.is_available() else 0,"
    "'threads': torch.get_num_threads()})"
)
PROBE_SECONDS = 180.0


@dataclass(frozen=True)
class Finding:
    """What one check found; `fix` is the next step where something is wrong."""

    check: str
    status: Status
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the finding as JSON."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Run every check; one that breaks is a failed finding, never an exception."""
    return [_careful(name, check, settings) for name, check in CHECKS.items()]


def examine_content(settings: Settings) -> list[Finding]:
    """Check every row, object and hash of a service, which may be running.

    What is broken is a failure; what is merely left over will be collected, and is a warning.
    """
    with open_resources(settings) as resources:
        try:
            found = [
                Finding(one.kind, "fail" if one.broken else "warn", str(one), one.fix)
                for one in integrity_check.check(resources)
            ]
        except (SQLAlchemyError, StorageUnavailable) as error:
            return [Finding("content", "fail", str(error).splitlines()[0], _fix("content"))]
    if any(one.status == "fail" for one in found):
        return found
    return [*found, Finding("content", "ok", "every history, artefact and shard is as it must be")]


def _careful(name: str, check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return check(settings)
    except TopworkError as error:
        return Finding(name, "fail", error.message, error.hint or "")
    except Exception as error:  # noqa: BLE001 - drivers raise anything; the words help.
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(name, "fail", first, _fix(name))


def check_python(_settings: Settings) -> Finding:
    """Return whether this Python is new enough."""
    found = f"{platform.python_version()} ({platform.machine()}, {os.cpu_count()} cores)"
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("python", "ok", found)
    return Finding("python", "fail", found, "Install Python 3.11 or newer.")


def check_torch(_settings: Settings) -> Finding:
    """Return whether torch works in a process of its own, and whether it sees the GPUs."""
    try:
        found = f"torch {version('torch')}, torchvision {version('torchvision')}"
    except PackageNotFoundError as error:
        if in_image():  # Of our images the api's alone has none, and computes nothing.
            return Finding("torch", "ok", "not part of this image, which answers HTTP alone")
        return Finding("torch", "fail", f"{error.name} is not installed", _fix("torch"))
    child = python("-c", PROBE)
    try:
        facts = json_child.ask(child, seconds=PROBE_SECONDS)
    except json_child.ChildDied as error:
        return Finding("torch", "fail", str(error), _fix("torch"))
    found += f", {facts['threads']} threads, {facts['gpus']} GPUs"
    if not facts["gpus"] and _gpus():
        fix = "Install the CUDA build of torch, or a driver as new as it needs."
        return Finding("torch", "warn", f"{found}, although nvidia-smi sees one", fix)
    return Finding("torch", "ok", found)


def check_memory(_settings: Settings) -> Finding:
    """Return how much memory the machine or the control group grants, and whether that suffices."""
    granted = memory()
    found = f"{granted / GIGABYTE:.1f} GB granted"
    if granted >= MEMORY_COMFORT:
        return Finding("memory", "ok", found)
    fix = "Raise the container's limit: a training of few images needs some 1.5 GB."
    return Finding("memory", "warn", found, fix)


def check_gpu(_settings: Settings) -> Finding:
    """Return what nvidia-smi lists; no GPU is fine."""
    return Finding("gpu", "ok", "; ".join(_gpus()) or "none: training and prediction use the CPU")


def _gpus() -> list[str]:
    if not (program := which("nvidia-smi")):
        return []
    query = "--query-gpu=name,memory.total,driver_version"
    done = subprocess.run(
        (program, query, "--format=csv,noheader"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def check_disk(settings: Settings) -> Finding:
    """Return whether there is room for data, models and the database's log."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free
    found = f"{free / GIGABYTE:.1f} GB free in {settings.data_dir}"
    if missing := disk.lacking(settings.data_dir, 0, settings.disk_reserve_bytes):
        return Finding("disk", "fail", f"{found}; the service needs {missing}", _fix("disk"))
    if free >= DISK_COMFORT:
        return Finding("disk", "ok", found)
    return Finding("disk", "warn" if free >= DISK_LEAST else "fail", found, _fix("disk"))


def check_data_dir(settings: Settings) -> Finding:
    """Return whether the data folder can be written, suits SQLite and is closed to others."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.data_dir) as file:
        file.write(b"topwork")
        os.fsync(file.fileno())
    kind = filesystem(settings.data_dir)
    found = f"{settings.data_dir} is writable ({kind or 'unknown filesystem'})"
    if kind in NETWORK and settings.database_url.startswith("sqlite"):
        fix = "Choose a local disk with TOPWORK_DATA_DIR, or Postgres with TOPWORK_DATABASE_URL."
        return Finding("data_dir", "fail", f"{found}: SQLite is not safe on it", fix)
    mode = stat.S_IMODE(settings.data_dir.stat().st_mode)
    if mode & OTHERS:
        fix = f"Unless that is meant: {shlex.join(['chmod', '700', str(settings.data_dir)])}"
        return Finding("data_dir", "warn", f"{found}, and open to other users ({mode:04o})", fix)
    return Finding("data_dir", "ok", found)


def check_broker(settings: Settings) -> Finding:
    """Return whether the configured broker answers, or the embedded one can start."""
    if settings.broker_url:
        with make_celery(settings.broker_url).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            return Finding("broker", "ok", f"answers at {connection.as_uri()}")
    server = find_server()
    done = subprocess.run((server, "--version"), capture_output=True, text=True, check=True)
    return Finding("broker", "ok", f"embedded: {' '.join(done.stdout.split()[:3])}")


def check_database(settings: Settings) -> Finding:
    """Return whether the database answers and has the newest schema."""
    url = make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return Finding("database", "ok", f"{shown} will be made at the first start")
    database = Database(settings.database_url)
    try:
        with database.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()
    newest = ScriptDirectory.from_config(configuration(settings.database_url)).get_current_head()
    if current == newest:
        return Finding("database", "ok", f"{shown} at revision {current}")
    up = command("up", data_dir=settings.data_dir)
    fix = f"{up} migrates it when it starts; of docker-compose.yml, the service `migrate` does."
    return Finding("database", "warn", f"{shown} is at {current}, not at {newest}", fix)


def check_storage(settings: Settings) -> Finding:
    """Write, read and delete one object."""
    storage = Storage(settings.storage_url, settings.storage_secret_key)
    key = f"doctor/{new_id('probe')}"
    storage.put_bytes(key, b"topwork")
    same = storage.get_bytes(key) == b"topwork"
    storage.delete(key)
    if same and not storage.exists(key):
        return Finding("storage", "ok", f"{settings.storage_url} can be written, read and deleted")
    return Finding(
        "storage", "fail", f"{settings.storage_url} gives back other bytes", _fix("storage")
    )


def check_weights(settings: Settings) -> Finding:
    """Return which pretrained weights are on this machine."""
    names = sorted(path.stem for path in settings.weights_dir.glob("*.safetensors"))
    if names:
        return Finding("weights", "ok", f"{', '.join(names)} in {settings.weights_dir}")
    why = "and TOPWORK_OFFLINE is set" if settings.offline else "downloaded when first used"
    add = command("weights", "add", "ARCHITECTURE", "FILE", weights_dir=settings.weights_dir)
    fix = f"For a machine without internet: {add}."
    return Finding("weights", "warn", f"none in {settings.weights_dir}, {why}", fix)


def _fix(check: str) -> str:
    """Return what to do about a check that failed in whatever way."""
    if check == "torch":
        return f"Install the versions that fit: {install('torch')}."
    return FIXES.get(check, "")


CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "python": check_python,
    "torch": check_torch,
    "memory": check_memory,
    "gpu": check_gpu,
    "disk": check_disk,
    "data_dir": check_data_dir,
    "broker": check_broker,
    "database": check_database,
    "storage": check_storage,
    "weights": check_weights,
}
FIXES = {
    "content": "Make database and storage reachable and migrated; the lines above name the fix.",
    "disk": "Free some space, or choose another disk with TOPWORK_DATA_DIR.",
    "data_dir": "Make the folder writable for this user, or choose one with TOPWORK_DATA_DIR.",
    "broker": "Start the broker, or correct TOPWORK_BROKER_URL.",
    "database": "Start the database, or correct TOPWORK_DATABASE_URL.",
    "storage": "Check the bucket or folder and its access rights, or correct TOPWORK_STORAGE_URL.",
}
