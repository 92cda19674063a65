"""Terminal output: tables or JSON on stdout, errors with their hint on stderr, exit codes.

Exit codes: 0 done; 1 it did not work (the job failed, the service is away or in trouble); 2 the
command asks for something that cannot be (as of arguments, so of any 4xx answer); 130 Ctrl-C.
"""

import functools
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from core.system import command_names
from core.system.settings import explain
from topwork import Topwork
from topwork.client.synchronous.service import DEFAULT_URL
from topwork.errors import JobFailed, TopworkError, Unreachable
from topwork.types.values import Answer

PIPE_WIDTH = 200
SMALL = 0.01  # Below it three places behind the point say too little.
FAILED, WRONG, INTERRUPTED = 1, 2, 130
TERMINAL = "terminal"  # Name of the parameter that the decorators fill.
RETRY_STATUSES = (409, 429)  # Of the 4xx those that may work later, unchanged.

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Url = Annotated[str, typer.Option("--url", envvar="TOPWORK_URL", help="Root of the service.")]
Key = Annotated[str, typer.Option("--key", envvar="TOPWORK_KEY", help="Bearer key.")]
P = ParamSpec("P")


@dataclass
class Terminal:
    """Where a command's output goes, and in which form."""

    as_json: bool = False
    out: Console = field(default_factory=lambda: _console(stderr=False))
    err: Console = field(default_factory=lambda: _console(stderr=True))

    def json(self, value: object) -> None:
        """Print a value as JSON on one line; models as the service sent them."""
        sys.stdout.write(json.dumps(value, default=_plain) + "\n")
        sys.stdout.flush()

    def show(self, value: object, render: Callable[[], object]) -> None:
        """Print a value as JSON, or what `render` makes of it."""
        if self.as_json:
            self.json(value)
        else:
            self.out.print(render())

    def say(self, text: str) -> None:
        """Print a remark for people; never part of the JSON output."""
        if not self.as_json:
            self.err.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def fail(self, error: TopworkError) -> int:
        """Print an error and return the exit code for it."""
        if self.as_json:
            facts = {**error.to_dict(), "request_id": error.request_id}
            sys.stderr.write(json.dumps({"error": facts}) + "\n")
        else:
            self.err.print(printable(f"Error: {error.message}"), style="bold red", markup=False)
            for one in error.errors:
                where = f"{one['param']}: " if one.get("param") else ""
                self.err.print(printable(f"  {where}{one.get('message')}"), markup=False)
            for one in error.options:
                value = one["value"] if isinstance(one["value"], str) else json.dumps(one["value"])
                flag = f"--{str(error.param).replace('_', '-')} {shlex.quote(value)}"
                self.err.print(
                    printable(f"  {flag}: {one['meaning']}"), markup=False, highlight=False
                )
            if error.hint:
                self.err.print(printable(f"Hint: {error.hint}"), markup=False, highlight=False)
        usage = 400 <= error.status < 500 and error.status not in RETRY_STATUSES  # noqa: PLR2004 - HTTP.
        return WRONG if usage and not isinstance(error, JobFailed) else FAILED


@dataclass
class Session(Terminal):
    """A terminal and the service that the command talks to."""

    topwork: Topwork = field(default_factory=Topwork)


def _console(*, stderr: bool) -> Console:
    """Return a console that does not cut lines for a pipe, which has no width."""
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def local(command: Callable[Concatenate[Terminal, P], None]) -> Callable[..., None]:
    """Turn `command(terminal, ...)` into a Typer command that also takes `--json`."""

    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        terminal = Terminal(as_json)
        _run(terminal, lambda: command(terminal, *args, **kwargs))

    return replace_parameters(
        command, run, (TERMINAL,), [_option("as_json", AsJson, default=False)]
    )


def remote(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Turn `command(terminal, ...)` into a Typer command that takes `--json --url --key`."""

    def run(*args: Any, as_json: bool, url: str, key: str, **kwargs: Any) -> None:
        def work() -> None:
            with Topwork(url, key) as topwork:
                command(Session(as_json, topwork=topwork), *args, **kwargs)

        _run(Terminal(as_json), work)

    options = [
        _option("as_json", AsJson, default=False),
        _option("url", Url, default=DEFAULT_URL),
        _option("key", Key, default=""),
    ]
    return replace_parameters(command, run, (TERMINAL,), options)


def _run(terminal: Terminal, work: Callable[[], None]) -> None:
    try:
        work()
    except TopworkError as error:
        if isinstance(error, Unreachable):  # The client cannot know how one is started here.
            up = command_names.command("up")
            error.hint = f"Start it with {up}, or name another one with --url or TOPWORK_URL."
        raise typer.Exit(terminal.fail(error)) from None
    except ValidationError as error:  # Of the settings: a TOPWORK_* variable is wrong.
        for words in explain(error):
            terminal.err.print(f"Error: {words}", style="bold red", markup=False)
        raise typer.Exit(WRONG) from None
    except OSError as error:  # A folder that cannot be written, a full disk.
        terminal.err.print(f"Error: {error}", style="bold red", markup=False)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def replace_parameters(
    command: Callable[..., None],
    run: Callable[..., None],
    dropped: Sequence[str],
    added: Sequence[inspect.Parameter],
) -> Callable[..., None]:
    """Let `run` look like `command` with other parameters; Typer reads them from the signature."""
    functools.update_wrapper(run, command)
    shown = inspect.signature(command, eval_str=True)
    kept = [one for one in shown.parameters.values() if one.name not in dropped]
    parameters = [*kept, *added]
    run.__signature__ = shown.replace(parameters=parameters)  # type: ignore[attr-defined] # Read by Typer.
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _option(name: str, annotation: object, *, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """Return a plain table; None shows as a dash, a float with three digits.

    Names of classes and files stand as they are: a bracket in one is not Rich's markup.
    """
    headers = (Column(Text(name)) for name in columns)
    shown = Table(*headers, title=title or None, box=None, header_style="bold", pad_edge=False)
    shown.title_justify = "left"
    for row in rows:
        shown.add_row(*(one if isinstance(one, Text) else Text(_cell(one)) for one in row))
    return shown


def facts(value: Answer | dict[str, Any], title: str = "") -> Table:
    """Return the fields of an object as a two-column table; empty ones are left out."""
    fields = value.to_dict() if isinstance(value, Answer) else value
    filled = {name: one for name, one in fields.items() if one not in (None, {}, [])}
    return table(("field", "value"), filled.items(), title)


def printable(text: str) -> str:
    """Return text that no terminal obeys: control characters and the like show as escapes."""
    return "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _cell(value: object) -> str:
    return printable(_plain_cell(value)).replace("\n", "\\n")


def _plain_cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= SMALL or not value else f"{value:.3g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain)
    return str(value)


def _plain(value: object) -> object:
    return value.to_dict() if isinstance(value, Answer) else str(value)
