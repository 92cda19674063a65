"""What others have named never commands the terminal of whoever lists it."""

import io

import pytest
from rich.console import Console

from app.terminal.output import Terminal, facts, table
from topwork.errors import InvalidField

HOSTILE = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\r",
    "\b\b",
    "\u202e",
    "\u2066",
    "\x9b31m",
    "\x85",
    "\u2028",
]


@pytest.mark.parametrize("sign", HOSTILE)
def test_every_way_out_shows_it_as_an_escape(sign: str) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    terminal = Terminal(out=console, err=console)
    terminal.show(None, lambda: table(["name"], [[f"a{sign}b"]]))
    terminal.show(None, lambda: facts({"metadata": {"note": f"a{sign}b"}, "name": f"a{sign}b"}))
    terminal.say(f"a{sign}b")
    terminal.fail(InvalidField(f"a{sign}b", hint=f"a{sign}b"))
    text = shown.getvalue()
    assert all(letter.isprintable() for letter in text.replace("\n", "")), text
    assert text.count("\\") >= 5
