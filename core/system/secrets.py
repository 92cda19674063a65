"""Secrets: read from files, refused where they are placeholders, hidden in logs."""

import re
from collections.abc import Mapping
from pathlib import Path

FROM_FILES = (
    "admin_key",
    "database_url",
    "database_password",
    "broker_url",
    "broker_password",
    "storage_secret_key",
)
PLACEHOLDER = re.compile(
    r"(?i)change[-_ ]?(me|it|this)|<.*>|\$\{.*\}|x{3,}|your[-_ ].*|example|placeholder|todo"
    r"|(my[-_ ]?)?(secret|password|key|token)|admin|topwork|test|1234.*"
)
SHORTEST = 20  # Characters of a secret that is to withstand guessing.
_GAPS = (
    (re.compile(r"tw_([0-9a-z]{22})_[0-9a-f]{64}"), r"tw_\1_***"),
    (re.compile(r"(?i)(bearer|basic)(\s+)[^\s\"',]+"), r"\1\2***"),
    (re.compile(r"(://[^\s:/@\"']*:)[^\s@/\"']+@"), r"\1***@"),
)

_known: set[str] = set()


def read_files(values: Mapping[str, object]) -> dict[str, object]:
    """Return settings with those secrets filled in that `<name>_file` points to.

    Raises:
        ValueError: A file cannot be read, or the secret is given twice.
    """
    filled = dict(values)
    for name in FROM_FILES:
        path = filled.get(f"{name}_file")
        if not path:
            continue
        if filled.get(name):
            message = f"{name} and {name}_file are both set"
            raise ValueError(message)
        try:
            filled[name] = Path(str(path)).expanduser().read_text().strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{name}_file cannot be read: {type(error).__name__}"
            raise ValueError(message) from None
    return filled


def is_placeholder(secret: str) -> bool:
    """Return whether a secret is one that stands in examples."""
    return bool(PLACEHOLDER.fullmatch(secret.strip()))


def redact(text: str) -> str:
    """Return a text without keys, Authorization headers and passwords in URLs."""
    for pattern, gap in _GAPS:
        text = pattern.sub(gap, text)
    for secret in _known:
        text = text.replace(secret, "***")
    return text


def hide(secret: str) -> None:
    """Keep a secret of this process out of what `redact` returns from now on."""
    if secret:
        _known.add(secret)
