"""Object storage behind a few verbs: a local folder or S3, same keys, same guarantees.

A key is visible only once its whole content is durable: locally by write, fsync, rename (the order
of Postgres' commit 606e0f98) and fsync of every folder on the way; on S3 by the service itself.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url
from pydantic import SecretStr

from core.system.addresses import file_path
from core.system.atomic_files import make_folder, sync
from core.system.copies import Hashed, copy, link, pieces_of
from topwork.errors import NotFound

CHUNK = 1024 * 1024
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


WHOLE = 4 * CHUNK
DRAFT = ".put-"
MOVE_TRIES = 3
LONGEST = timedelta(days=1)  # Of one request to S3: a large archive over a thin line.
SILENCE = timedelta(seconds=30)  # After which such a request is tried again.


class StorageUnavailable(Exception):
    """The object storage did not answer."""


@dataclass(frozen=True)
class Entry:
    """A stored object: its key, its size in bytes, and when it came (epoch seconds)."""

    key: str
    size: int
    stored_at: float


class Storage:
    """Files under slash-separated keys that this service makes itself, never a user's names.

    Args:
        url: `file:///absolute/folder` or `s3://bucket/prefix`; S3 reads the usual `AWS_*`
            environment variables, `AWS_ENDPOINT` among them.
        secret_key: In place of `AWS_SECRET_ACCESS_KEY`, if there is one.

    Raises:
        StorageUnavailable: By every verb, when the storage cannot be reached.
    """

    def __init__(self, url: str, secret_key: SecretStr | None = None) -> None:
        self.root = file_path(url)
        # Inodes of folders in the root whose names are on disk; one made again has another.
        self._settled: set[int] = set()
        if self.root is not None:
            make_folder(self.root)
            self._store: ObjectStore = LocalStore(self.root)
        else:
            plain = os.environ.get("AWS_ENDPOINT", "").startswith("http://")
            secret = secret_key.get_secret_value() if secret_key else ""
            # The library's own limit is 30 s for a whole request. Beyond it, it asks for the rest,
            # but for three minutes only: what takes longer to come would never come.
            self._store = from_url(
                url,
                config={"secret_access_key": secret} if secret else {},
                client_options={"allow_http": plain, "timeout": LONGEST, "read_timeout": SILENCE},
            )

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a small object."""
        if self.root is None:
            with _translated(key):
                obstore.put(self._store, _checked(key), data)
            return
        with self._local_draft(key) as draft:
            draft.write_bytes(data)

    def put_file(self, key: str, path: Path) -> None:
        """Store a file; on one file system it is linked, so its writer is done and removes it soon.

        Whoever reads the object hashes it. A file that is hashed here goes through `put_hashed`.
        """
        if self.root is None:
            with _translated(key):
                obstore.put(self._store, _checked(key), path)
            return
        with self._local_draft(key) as draft:
            link(path, draft)

    def put_hashed(self, key: str, path: Path) -> str:
        """Store a copy of a file; return the SHA-256 of the copy."""
        if self.root is not None:
            with self._local_draft(key) as draft:
                return copy(path, draft)
        with path.open("rb") as file, _translated(key):
            pieces = Hashed(pieces_of(file))
            # What comes in pieces goes up in parts, which takes three requests at least.
            small = os.fstat(file.fileno()).st_size <= WHOLE
            obstore.put(self._store, _checked(key), b"".join(pieces) if small else pieces)
            return pieces.sha256()

    def get_bytes(self, key: str) -> bytes:
        """Return a small object's content; NotFound where there is none."""
        with _translated(key):
            return bytes(obstore.get(self._store, _checked(key)).bytes())

    def stream(self, key: str, chunk: int = CHUNK) -> Iterator[bytes]:
        """Return an object's content piece by piece; what is not there is known at once."""
        with _translated(key):
            found = obstore.get(self._store, _checked(key))
        return _pieces(key, found.stream(min_chunk_size=chunk))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` of an object."""
        with _translated(key):
            return bytes(obstore.get_range(self._store, _checked(key), start=offset, length=length))

    def fetch(self, key: str, path: Path) -> str:
        """Copy an object to a local file, which appears whole or not at all.

        Returns:
            The SHA-256 of the copy, which shares no byte with the object.
        """
        with self._local_part(path) as part:
            local = self.local_path(key)
            if local is not None:
                with _translated(key):
                    return copy(local, part)
            pieces = Hashed(self.stream(key))
            with part.open("wb") as file:
                file.writelines(pieces)
            return pieces.sha256()

    def exists(self, key: str) -> bool:
        """Tell whether an object is stored under this key."""
        try:
            with _translated(key):
                obstore.head(self._store, _checked(key))
        except NotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """Return the bytes of an object; 0 where there is none."""
        try:
            with _translated(key):
                return int(obstore.head(self._store, _checked(key))["size"])
        except NotFound:
            return 0

    def list(self, prefix: str) -> list[str]:
        """Return every key below a prefix, sorted."""
        with _translated(prefix):
            pages = obstore.list(self._store, prefix=_checked(prefix))
            return sorted(entry["path"] for page in pages for entry in page)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield every object below a prefix, in no order; what vanishes meanwhile may be left out.

        Locally the time is that of the inode's last change: a linked file keeps the modification
        time of its source, which may be far older than the object.
        """
        if self.root is not None:
            for path in (self.root / _checked(prefix)).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    if path.is_file():
                        key = path.relative_to(self.root).as_posix()
                        yield Entry(key, facts.st_size, facts.st_ctime)
            return
        with _translated(prefix):
            for page in obstore.list(self._store, prefix=_checked(prefix)):
                for one in page:
                    yield Entry(one["path"], one["size"], one["last_modified"].timestamp())

    def delete_all(self, keys: Sequence[str]) -> None:
        """Forget many objects, on S3 in as few requests as it allows."""
        if self.root is not None:
            for key in keys:
                self.delete(key)
        elif keys:
            with _translated(keys[0]):
                obstore.delete(self._store, [_checked(key) for key in keys])

    def drafts(self, before: float) -> Sequence[Path]:
        """Return what writers killed before this time (epoch seconds) left beside the objects."""
        found = self.root.glob(f"{DRAFT}*") if self.root is not None else ()
        return [path for path in found if _changed_at(path) < before]

    def prune(self, before: float) -> int:
        """Remove old drafts, and folders that have been empty since then; return how many drafts.

        S3 has neither: parts of an upload that was broken off there are the bucket's to expire.
        """
        if self.root is None:
            return 0
        drafts = self.drafts(before)
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)
        for folder, _, _ in os.walk(self.root, topdown=False):
            if Path(folder) != self.root and _changed_at(Path(folder)) < before:
                with contextlib.suppress(OSError):  # It is not empty.
                    Path(folder).rmdir()
        return len(drafts)

    def delete(self, key: str) -> None:
        """Forget an object; nothing happens where there is none."""
        with contextlib.suppress(NotFound), _translated(key):
            obstore.delete(self._store, _checked(key))

    def delete_prefix(self, prefix: str) -> None:
        """Forget every object below a prefix."""
        for key in self.list(prefix):
            self.delete(key)

    def local_path(self, key: str) -> Path | None:
        """Return where an object lies on this machine, or None for remote storage."""
        return None if self.root is None else self.root / _checked(key)

    @staticmethod
    @contextlib.contextmanager
    def _local_part(path: Path) -> Iterator[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.unlink(missing_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _local_draft(self, key: str) -> Iterator[Path]:
        assert self.root is not None  # noqa: S101 - callers have checked that storage is local.
        target = self.root / _checked(key)
        folder = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.root))
        try:
            draft = folder / "draft"
            yield draft
            sync(draft)
            _move(draft, target)
            self._sync_way(self.root, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _sync_way(self, root: Path, target: Path) -> None:
        """Force every folder from an object up to the root to disk, whoever made it.

        Another writer may have made one a moment ago without having come to its own sync. Only the
        root, which every draft changes and which is dear for that, is left out where this process
        has synced it with the same folder below.
        """
        *below, _ = [root / folder for folder in target.relative_to(root).parents]
        for folder in below:
            sync(folder)
        topmost = {folder.stat().st_ino for folder in below[-1:]}
        if not topmost or topmost - self._settled:
            sync(root)
            self._settled |= topmost


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        message = f"not a storage key: {key!r}"
        raise ValueError(message)
    return key


def _move(draft: Path, target: Path) -> None:
    """Rename into a folder that `prune` may remove between its making and its use."""
    for left in reversed(range(MOVE_TRIES)):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.replace(target)
        except FileNotFoundError:
            if not left:
                raise
        else:
            return


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return float("inf")


def _pieces(key: str, found: Any) -> Iterator[bytes]:
    with _translated(key):
        for piece in found:
            yield bytes(piece)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Give the two failures that callers handle their own types."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"nothing is stored under {key}") from error
    except BaseError as error:
        raise StorageUnavailable(str(error)) from error
