"""Write the pages that repeat the code: `python docs/reference.py` (part of `make format`)."""

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import app
import core
import topwork
import worker
from app.api.main import create_app
from app.api.openapi_document import sentence
from app.cli import program
from core.system.settings import Settings
from topwork.errors import TopworkError

ROOT = Path(__file__).resolve().parents[1]
# Importing these loads torch, runs a program, or works inside Alembic only.
NOT_IMPORTED = (
    "app.predictor.__main__",
    "app.predictor.service",
    "app.predictor.model_files",
    "__main__",
    "core.store.migrations",
)
MEBIBYTE = 1024 * 1024

SETTINGS = """\
# Settings

Every setting is an environment variable with the prefix `TOPWORK_`; `topwork up` takes the most
used ones as options too. A value that cannot be read or lies out of its range stops the process
at its start, with the variable's name. This page is written from `core/system/settings.py` by
`make format`; a test compares the two.

| variable | default | range | meaning |
|---|---|---|---|
"""

ERRORS = """\
# Errors

Everything that can go wrong for a user has a stable `code`. Over HTTP it is the `code` of an
`application/problem+json` answer (RFC 9457) beside `title`, `detail`, `param`, `hint`,
`request_id` and, where several fields are wrong, `errors`; in a job it is `error.code`; a
process of its own leaves it in `RUN_DIR/error.json`. Programs should branch on the code: messages
may change their words. This page is written from the classes themselves by `make format`; a
test compares the two.

| code | status | meaning | hint |
|---|---|---|---|
"""

CLI = """\
# Command line

`topwork` lives in `.venv/bin`. Every command takes `--json` (machine-readable output, errors
too); those that talk to a service take `--url` (`TOPWORK_URL`) and `--key` (`TOPWORK_KEY`). Exit
codes: 0 done, 1 it did not work, 2 the command asks for something that cannot be, 130
interrupted. This page is written from the commands by `make format`; a test compares the two.
"""

ROUTES = "## Routes\n"
TREE = "## The tree\n"
LAYERS, END_OF_LAYERS = "<!-- layers -->\n", "<!-- end of layers -->\n"
ROOMS = {
    "topwork/": "The public contract, with pydantic and httpx2 alone: from topwork import Topwork",
    "topwork/errors/": "All errors as one tree of classes",
    "topwork/types/": "Types of requests and answers (pydantic), one module for each noun",
    "topwork/client/": "The Python client: asynchronous/ is its source, synchronous/ is generated",
    "app/": "The service: every process that answers HTTP, and the topwork command",
    "app/api/": "The API process: python -P -m app.api.main",
    "app/api/routes/": "One router for each noun",
    "app/api/views/": "Rows of the database as topwork.types",
    "app/api/uploads/": "Uploads of archives: as one body, or resumable (tus)",
    "app/asgi/": "HTTP alone: connections, bodies, limits, problem details; no domain",
    "app/predictor/": "The predictor process: python -P -m app.predictor",
    "app/supervisor/": "topwork up: all processes under one supervisor",
    "app/terminal/": "Terminal output of the command and the demo",
    "app/demo/": "topwork demo: the main job, once, on real images",
    "app/cli/": "The topwork command",
    "core/": "Shared by all processes; no torch, no web framework",
    "core/system/": "Settings, files, logs, child processes, the run directory (RUN_DIR)",
    "core/imaging/": "The image decoder of ingestion, trainer and predictor",
    "core/ingest/": "Ingestion of untrusted archives into shards: python -P -m core.ingest",
    "core/store/": "Database, object storage, broker: SQLite or Postgres, folder or S3, Valkey",
    "core/domain/": "Domain logic: jobs, leases, datasets, models, keys, usage",
    "core/ops/": "Backup, restore, garbage collection, integrity check",
    "models/": "Plan, train, predict; usable without any service: python -P -m models.train",
    "models/planning/": "The training plan: every auto gets a value and a reason; no torch",
    "models/weights/": "Pretrained weights: downloaded, checked, kept in a folder",
    "models/networks/": "Architectures, their heads and their blocks",
    "models/compute/": "Device, precision, memory and threads of a run",
    "models/data/": "Data loading: caches, augmentation, features",
    "models/inference/": "Preprocessing, prediction and the artefact: image bytes to labels",
    "models/training/": "A run as a session: stages, training loop, checkpoints, exact resume",
    "models/export/": "Trained models for other programs: python -P -m models.export",
    "models/prediction/": "Batch prediction: many images to a file of answers, resumable",
    "models/evaluation/": "Metrics, calibration, confidence intervals",
    "worker/": "The worker process, which runs jobs in child processes: python -P -m worker",
    "worker/kinds/": "One file for each kind of job: its inputs, module and publication",
    "worker/process/": "The process group of one job: start, guard, stop",
    "web/": "The web page: Vite, Preact, TypeScript",
    "tests/": "The same folders, plus tests/e2e and tests/chaos for the whole service",
    "bench/": "Benchmarks: a script for every claim of speed",
    "docs/": "Architecture, decisions, operations, API guide, reference",
}
AREAS = (
    "jobs",
    "training",
    "predictions",
    "HTTP and access",
    "datasets and uploads",
    "storage",
    "processes",
    "code and tools",
)
DECISIONS = """\
# Decisions

What was chosen, why, and what was rejected: one page for each decision, for somebody about to
change one of these things. Numbers follow the dates. A figure without a command beside it was
measured once, while choosing, on two shared cores: it is a reason, not a promise. What is promised
is measured in `bench/`. How to add one is in [CONTRIBUTING.md](../../CONTRIBUTING.md#decisions).
This page is written from the others by `make format`; a test compares the two.
"""
EVERYWHERE = {"--json", "--url", "--key", "--help", "--install-completion", "--show-completion"}


def settings_page() -> str:
    """Return docs/settings.md."""
    rows = (
        f"| `TOPWORK_{name.upper()}` | {_default(name, field)} | {_range(field)} "
        f"| {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return SETTINGS + "".join(rows)


def errors_page() -> str:
    """Return docs/errors.md."""
    for package in (app, core, topwork, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part in module.name for part in NOT_IMPORTED):
                importlib.import_module(module.name)
    by_code = {error.code: error for error in _below(TopworkError) if "code" in vars(error)}
    rows = (
        f"| `{code}` | {error.status} | {_first_line(error)} | {error.hint or ''} |\n"
        for code, error in sorted(by_code.items())
    )
    return ERRORS + "".join(rows)


def cli_page() -> str:
    """Return docs/cli.md."""
    return CLI + "".join(_commands("topwork", typer.main.get_command(program)))


def api_page() -> str:
    """Return docs/api.md: the guide as it is, then a table of all routes."""
    guide, _, _ = (ROOT / "docs/api.md").read_text().partition(ROUTES)
    rows = (
        f"| `{method.upper()} {path}` | {operation['summary']}. |\n"
        for path, methods in create_app(Settings()).openapi()["paths"].items()
        for method, operation in methods.items()
    )
    return f"{guide}{ROUTES}\n| | |\n|---|---|\n" + "".join(rows)


def decisions_page() -> str:
    """Return docs/decisions/README.md: a line for each decision, by area."""
    areas: dict[str, list[str]] = {area: [] for area in AREAS}
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        title, _, date, *_ = path.read_text().splitlines()
        day, area = date.removeprefix("Date: ").removesuffix(".").split(". Area: ")
        row = f"| {path.name[:4]} | [{title.removeprefix('# ')}]({path.name}) | {day} |\n"
        areas[area].append(row)
    head = "| | decision | date |\n|---|---|---|\n"
    sections = (
        f"\n## {area[0].upper()}{area[1:]}\n\n{head}{''.join(rows)}" for area, rows in areas.items()
    )
    return DECISIONS + "".join(sections)


def architecture_page() -> str:
    """Return docs/architecture.md with the layers of the import contracts."""
    text = (ROOT / "docs/architecture.md").read_text()
    before, _, rest = text.partition(LAYERS)
    _, _, after = rest.partition(END_OF_LAYERS)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    blocks = (
        "".join(_layers(contract["layers"]))
        for contract in tools["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    picture = "\n".join(blocks)
    return f"{before}{LAYERS}\n```text\n{picture}```\n\n{END_OF_LAYERS}{after}"


def readme() -> str:
    """Return README.md with the tree as it is."""
    text = (ROOT / "README.md").read_text()
    before, _, after = text.partition(TREE)
    _, _, rest = after.partition("\n```\n")
    lines = "".join(f"{_room(folder, about)}\n" for folder, about in ROOMS.items())
    return f"{before}{TREE}\n```text\n{lines}```\n{rest}"


def llms() -> str:
    """Return llms.txt (llmstxt.org): what Topwork is, and a line for each page about it."""
    title, what, *_ = (ROOT / "README.md").read_text().split("\n\n")
    pages = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
    lines = []
    for page in pages:
        heading, about, *_ = (ROOT / page).read_text().split("\n\n")
        said = "" if about.startswith("#") else f": {sentence(about)}."
        lines.append(f"- [{heading.removeprefix('# ')}]({page}){said}\n")
    decisions = "- [Decisions](docs/decisions/README.md): why it is so, and what was rejected\n"
    quote = " ".join(what.split())
    return f"{title}\n\n> {quote}\n\n## Documentation\n\n{''.join(lines)}{decisions}"


PAGES = {
    "docs/settings.md": settings_page,
    "docs/errors.md": errors_page,
    "docs/cli.md": cli_page,
    "docs/api.md": api_page,
    "docs/architecture.md": architecture_page,
    "docs/decisions/README.md": decisions_page,
    "README.md": readme,
    "llms.txt": llms,
}


def _layers(layers: list[str]) -> Iterator[str]:
    """Yield a line for each room, the highest layer first."""
    for number, layer in zip(range(len(layers), 0, -1), layers, strict=True):
        for room in layer.split(" | "):
            yield f"{number:>2}  {room:<20}{_about(room)}\n"


def _about(room: str) -> str:
    """Return what a folder is for, or the first words of a module."""
    path = room.replace(".", "/")
    if f"{path}/" in ROOMS:
        return ROOMS[f"{path}/"]
    module = ast.parse((ROOT / f"{path}.py").read_text())
    return re.split(r"\. |\.?\n|;", ast.get_docstring(module) or "")[0].replace("`", "")


def _room(folder: str, about: str) -> str:
    """Return the tree's line for a folder."""
    *above, name, _ = folder.split("/")
    return f"{'  ' * len(above) + name + '/':<20}{about}"


def _commands(path: str, command: Any) -> Iterator[str]:
    """Yield a section for a command and those below it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}", inner)
    if hasattr(command, "commands"):
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([path, *(p.metavar or p.name.upper() for p in arguments)])
    yield f"\n## `{usage}`\n\n{(command.help or '').strip()}\n"
    shown = [p for p in options if not EVERYWHERE & set(p.opts)]
    if shown:
        yield "\n| option | meaning |\n|---|---|\n"
        yield from (f"| `{', '.join(p.opts)}` | {p.help or ''} |\n" for p in shown)


def _below(error: type[TopworkError]) -> Iterator[type[TopworkError]]:
    """Yield subclasses, leaves before their parents: where a code is shared the parent wins."""
    # By module, as Python lists them by who was imported first.
    for subclass in sorted(error.__subclasses__(), key=lambda one: one.__module__):
        yield from _below(subclass)
        yield subclass


def _first_line(error: type[TopworkError]) -> str:
    return (error.__doc__ or "").strip().splitlines()[0]


def _default(name: str, field: FieldInfo) -> str:
    value: Any = field.default
    if value in ("", Path()) or isinstance(value, SecretStr):
        return ""
    if name.endswith("_bytes") and value >= MEBIBYTE:
        return f"{value} ({value // MEBIBYTE} MiB)"
    return f"`{value}`" if isinstance(value, (str, Path)) else str(value).lower()


def _range(field: FieldInfo) -> str:
    limits = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}"}
    found = (
        text.format(getattr(part, key))
        for part in field.metadata
        for key, text in limits.items()
        if getattr(part, key, None) is not None
    )
    return " and ".join(found)


if __name__ == "__main__":
    for page, write in PAGES.items():
        (ROOT / page).write_text(write())
