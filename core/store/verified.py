"""Stored bytes that are what a row says: nothing is handed on before all of it was hashed."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from core.store.object_store import Storage
from core.system.copies import Hashed, pieces_of
from topwork.errors import IntegrityError

IN_MEMORY = 4 * 1024 * 1024  # What is larger lies in a file without a name while it is sent.


def content(storage: Storage, key: str, sha256: str) -> bytes:
    """Return a small object's content.

    Raises:
        NotFound: It is not there.
        IntegrityError: It has another hash; the message names the object.
    """
    data = storage.get_bytes(key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(key)
    return data


def stream(storage: Storage, key: str, sha256: str, folder: Path) -> Iterator[bytes]:
    """Return an object's content piece by piece, from a private copy that was hashed as a whole.

    Args:
        storage: Where the object is.
        key: Its key.
        sha256: What it has to hash to.
        folder: Where the copy of a large one lies, without a name.

    Raises:
        NotFound: It is not there.
        IntegrityError: It has another hash; the message names the object.
    """
    return of_pieces(storage.stream(key), key, sha256, folder)


def of_pieces(came: Iterable[bytes], name: str, sha256: str, folder: Path) -> Iterator[bytes]:
    """Do the same as `stream` for pieces that come from somewhere else, under a name for errors."""
    hashed = Hashed(came)
    with contextlib.ExitStack() as closing:
        copy = closing.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)))
        copy.writelines(hashed)
        if hashed.sha256() != sha256:
            raise _damaged(name)
        copy.seek(0)
        sent = _sent(copy, closing.pop_all())
        next(sent)
        return sent


def _sent(copy: IO[bytes], closing: contextlib.ExitStack) -> Iterator[bytes]:
    with closing:
        yield b""  # From here on, whoever drops this unread (as a 304 does) closes the copy.
        yield from pieces_of(copy)


def _damaged(name: str) -> IntegrityError:
    return IntegrityError(f"{name} is damaged: its content does not match its hash")
