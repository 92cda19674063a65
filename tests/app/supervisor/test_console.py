"""What the supervisor prints, on a terminal and into a file."""

import io

import pytest

from app.supervisor.console import Console, readable


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_file_gets_plain_lines_with_their_source() -> None:
    out = io.StringIO()
    console = Console(out)
    console.line("api", '{"event": "request"}')
    console.say("ready")
    assert out.getvalue() == 'api       | {"event": "request"}\ntopwork   | ready\n'


def test_a_terminal_gets_colour_and_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    Console(screen).line("api", '{"event": "request", "status": 200}')
    assert screen.getvalue() == "\x1b[36mapi       |\x1b[0m request status=200\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Screen()
    Console(plain).line("api", "text")
    assert plain.getvalue() == "api       | text\n"


def test_a_reader_that_has_gone_away_is_no_error() -> None:
    out = io.StringIO()
    console = Console(out)
    out.close()
    console.say("hello")


@pytest.mark.parametrize(
    "line", ['{"event": "request", "path": "/a\\u001b[2J\\nready"}', "/a\x1b[2J\\nready"]
)
def test_what_is_logged_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    Console(screen).line("api", line)
    assert screen.getvalue().endswith("/a\\x1b[2J\\nready\n")
    assert screen.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"event": "job", "level": "info", "timestamp": "x", "id": "j"}', "job id=j"),
        ('{"event": "lost", "level": "warning"}', "WARNING lost"),
        ('{"event": "broken", "level": "error", "exception": "T\\nX"}', "ERROR broken\nT\nX"),
        ("plain words", "plain words"),
        ("[1]", "[1]"),
        ("{}", "{}"),
        ("", ""),
    ],
)  # fmt: skip
def test_structured_lines_become_readable_and_others_stay(line: str, text: str) -> None:
    assert readable(line) == text
