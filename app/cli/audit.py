"""`topwork audit`: who changed what."""

import json
from typing import Annotated

import typer

from app.terminal.output import Session, facts, remote
from core.domain import audit

group = typer.Typer(help="Export and verify the audit log; for admins.", no_args_is_help=True)


@group.command()
@remote
def export(
    terminal: Session,
    after: Annotated[int, typer.Option(min=0, help="Number of the last entry you have.")] = 0,
) -> None:
    """Print the log as JSON lines, the oldest entry first."""
    for entry in terminal.topwork.audit.entries(after=after):
        typer.echo(json.dumps(entry))


@group.command()
@remote
def verify(
    terminal: Session,
    seq: Annotated[int, typer.Option(min=0, help="Number of an entry that you remember.")] = 0,
    digest: Annotated[str, typer.Option(help="The digest that it had.")] = "",
) -> None:
    """Check that no entry was changed, taken out or put in; print what to remember."""
    known = {"seq": seq, "digest": digest}
    newest = terminal.topwork.audit.head()
    entries = list(terminal.topwork.audit.entries())
    for promised in (known, newest):
        audit.verify(entries, promised)
    result = {"entries": len(entries), "seq": newest["seq"], "digest": newest["digest"]}
    terminal.show(result, lambda: facts(result))
