"""Paths and passwords in URLs and configurations: the one place that writes and reads them.

A folder may have any name that can be typed, and a password any characters. In a URL `#`, `?` and
`%` mean something else (RFC 3986, section 2), so nobody joins a scheme and a path by hand: what is
kept would lie elsewhere.
"""

import unicodedata
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


def sqlite_url(path: Path) -> str:
    """Return SQLAlchemy's URL of a database file."""
    return f"sqlite:///{quote(str(path))}"


def file_url(path: Path) -> str:
    """Return the `file://` URL of an absolute path."""
    return f"file://{quote(str(path))}"


def file_path(url: str) -> Path | None:
    """Return the path that a `file://` URL names; None for other schemes.

    Raises:
        ValueError: A character of the path has to be quoted, so the URL names another path.
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if parts.query or parts.fragment or "?" in url or "#" in url or parts.netloc:
        message = "a file URL is file:///absolute/path, with %3F for ? and %23 for #"
        raise ValueError(message)
    return Path(unquote(parts.path))


def broker_url(socket: Path, password: str) -> str:
    """Return the URL of a broker that listens on a socket of this machine.

    Kombu takes the path as it stands up to the first question mark, then unquotes it.
    """
    # Kombu lets the user part win over a password in the query, so the password stands here.
    return f"redis+socket://:{quote(password)}@{quote(str(socket))}?virtual_host=0"


def with_password(url: str, password: str) -> str:
    """Return a URL with a password of any characters, which are quoted as they have to be.

    Raises:
        ValueError: The URL names no host, or has a password already.
    """
    parts = urlsplit(url)
    if not parts.netloc:
        message = "a password needs a URL with a host"
        raise ValueError(message)
    user, _, host = parts.netloc.rpartition("@")
    if ":" in user:
        message = "the URL has a password already"
        raise ValueError(message)
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def valkey_word(path: Path) -> str:
    """Return a path as one word of Valkey's configuration."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def check_typed(path: Path) -> None:
    """Refuse a path with a name that no configuration file or log line can hold.

    Raises:
        ValueError: It has control characters, or bytes that are no UTF-8.
    """
    for character in str(path):
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            what = ascii(character).strip("'")
            message = f"the folder's name has the character {what}, which cannot be written down"
            raise ValueError(message)
