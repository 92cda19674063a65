"""Which regular expressions may name the group of an image by its path.

Python's engine goes back and tries again, which takes exponential time for some patterns. Those
that are taken repeat single characters only, and few of them: the time for a path is then bounded
by the square of its length, as the engine holds back all other threads meanwhile. Whoever applies
one to many paths bounds the time of all.
"""

import re

MOST_CHARACTERS = 200
MOST_UNBOUNDED = 2  # `*`, `+` and `{m,n}`: each may try every length; a search every start, too.
MOST_CHOICES = 3  # `?` and `|`: each may double the tries.
MOST_REPEATS = 64  # Of `{n}`.

_GROUP = re.compile(r"\((\?:|\?P<[A-Za-z_][A-Za-z0-9_]*>|(?!\?))")
_ATOM = re.compile(
    r"\\([dDwWsSbB]|[^A-Za-z0-9])|\[\^?\]?(\\.|[^\]\\])*\]|[^\\\[\]()|?*+{}]", re.DOTALL
)
_REPEAT = re.compile(r"(\*|\+|\?|\{(\d{1,3})(,(\d{0,3}))?\})(\?)?")


def checked(pattern: str) -> "re.Pattern[str]":
    """Return the compiled pattern.

    Raises:
        ValueError: It is no regular expression, has no group, or may take too long.
    """
    if len(pattern) > MOST_CHARACTERS:
        message = f"a pattern has at most {MOST_CHARACTERS} characters"
        raise ValueError(message)
    _check_parts(pattern)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        message = f"this is no regular expression: {error}"
        raise ValueError(message) from None
    if not compiled.groups:
        message = "put what names the group of an image into parentheses, as in patient_(\\d+)"
        raise ValueError(message)
    return compiled


def _check_parts(pattern: str) -> None:
    at, unbounded, choices, is_group = 0, 0, 0, False
    while at < len(pattern):
        repeat = _REPEAT.match(pattern, at)
        part = repeat or _GROUP.match(pattern, at) or _ATOM.match(pattern, at)
        if part is None and pattern[at] not in ")|":
            message = f"a pattern here has no {pattern[at : at + 3]!r}"
            raise ValueError(message)
        if repeat and is_group and repeat[1] != "?":
            message = "a pattern here repeats single characters, not groups"
            raise ValueError(message)
        if repeat and int(repeat[2] or 0) > MOST_REPEATS:
            message = f"a pattern here repeats a character at most {MOST_REPEATS} times"
            raise ValueError(message)
        varies = repeat is not None and (repeat[2] is None or repeat[3] is not None)
        choices += pattern[at] == "|" or (varies and pattern[at] == "?")
        unbounded += varies and pattern[at] != "?"
        is_group = pattern[at] == ")"
        at += len(part[0]) if part else 1
    if not pattern.startswith("^") or "|" in pattern:  # Another branch may begin anywhere.
        unbounded += 1
    if unbounded > MOST_UNBOUNDED or choices > MOST_CHOICES:
        message = (
            f"a pattern here has one of * + {{m,n}}, {MOST_UNBOUNDED} if it begins with ^ and has"
            f" no |, and at most {MOST_CHOICES} of ? |, so that no path takes long"
        )
        raise ValueError(message)


def group_in(pattern: "re.Pattern[str]", path: str) -> str | None:
    """Return what a pattern finds in a path: its first named group, else its first one."""
    found = pattern.search(path)
    if found is None:
        return None
    return found[next(iter(pattern.groupindex.values()), 1)]
