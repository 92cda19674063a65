"""Write the pages that repeat the code: `python docs/reference.py` (part of `make format`)."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import app
import core
import worker
from core.errors import TopworkError
from core.settings import Settings

HERE = Path(__file__).parent
RUNS_NETWORKS = {"app.predictor", "app.serving"}  # Importing these would load torch.
MEBIBYTE = 1024 * 1024

SETTINGS = """\
# Settings

Every knob is an environment variable with the prefix `TOPWORK_`; `topwork up` takes the most
used ones as options too. A value that cannot be read or lies out of its range stops the process
at its start, with the variable's name. This page is written from `core/settings.py` by
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
    for package in (app, core, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.split(".")[-1] != "__main__" and module.name not in RUNS_NETWORKS:
                importlib.import_module(module.name)
    by_code = {error.code: error for error in _subclasses(TopworkError)}
    rows = (
        f"| `{code}` | {error.status} | {_first_line(error)} | {error.hint or ''} |\n"
        for code, error in sorted(by_code.items())
    )
    return ERRORS + "".join(rows)


PAGES = {"settings.md": settings_page, "errors.md": errors_page}


def _subclasses(error: type[TopworkError]) -> Iterator[type[TopworkError]]:
    """Yield the tree from its leaves to its root, so that a shared code gets the root's text."""
    for subclass in error.__subclasses__():
        yield from _subclasses(subclass)
    yield error


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
        (HERE / page).write_text(write())
