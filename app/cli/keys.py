"""`topwork keys`: who may speak to a service."""

from itertools import islice
from typing import Annotated

import typer

from app.terminal.output import Session, facts, remote, table

group = typer.Typer(help="Make, list and revoke API keys; for admins.", no_args_is_help=True)


@group.command()
@remote
def create(
    terminal: Session,
    scope: Annotated[
        list[str], typer.Option(help="read, predict, train or admin; may be given several times.")
    ],
    owner: Annotated[
        str | None, typer.Option(help="Whose objects it sees and adds; default your own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A word to recognise it by.")] = None,
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; default never.")
    ] = None,
) -> None:
    """Make a key and show it, for the only time."""
    made = terminal.topwork.keys.create(scope, owner=owner, name=name, expires_in_days=days)
    terminal.show(made, lambda: facts(made))
    terminal.say("This key is shown only now. Send it as TOPWORK_KEY or with --key.")


@group.command("list")
@remote
def list_keys(
    terminal: Session, limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 20
) -> None:
    """List keys without their secrets, the newest first."""
    found = list(islice(terminal.topwork.keys.list(), limit))
    terminal.show(
        found,
        lambda: table(
            ("key", "owner", "scopes", "name", "expires", "last used", "revoked"),
            (
                (
                    one.id,
                    one.owner,
                    ", ".join(one.scopes),
                    one.name,
                    one.expires_at,
                    one.last_used_at,
                    one.revoked_at,
                )
                for one in found
            ),
        ),
    )


@group.command()
@remote
def revoke(
    terminal: Session,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key.")],
) -> None:
    """Make a key worthless at once."""
    terminal.topwork.keys.revoke(key_id)
