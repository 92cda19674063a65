"""Pump an archive's files through the decoders into shards, in order and in bounded memory."""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from core.imaging.formats import recognised, unread_image
from core.ingest.archive import MEBIBYTE, Refusal
from core.ingest.curate import Stored
from core.ingest.decoders import DecodeResult, Decoders
from core.ingest.shards import ShardWriter

BATCH_IMAGES = 64
BATCH_BYTES = MEBIBYTE
BUDGET_BYTES = 64 * MEBIBYTE  # Of images between the archive and the shards.


@dataclass(slots=True)
class _Batch:
    hashes: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    size: int = 0
    verdicts: Future[list[DecodeResult]] | None = None


class Stream:
    """Takes files one by one; each different image is decoded and stored once.

    Args:
        decoders: Where images are decoded.
        shards: Where good images go, in the order in which they came.
    """

    def __init__(self, decoders: Decoders, shards: ShardWriter) -> None:
        self.stored: dict[str, Stored] = {}
        self._decoders = decoders
        self._shards = shards
        self._files: list[tuple[str, str]] = []
        self._faults: dict[str, tuple[str, str]] = {}  # sha256 -> code and message.
        self._seen: set[str] = set()
        self._refusals: list[Refusal] = []
        self._pending: deque[_Batch] = deque()
        self._flying = 0
        self._batch = _Batch()

    def add(self, paths: Sequence[str], content: bytes | str) -> None:
        """Take the next file, under all its names, or the code that says why it cannot be read."""
        if isinstance(content, str):
            self._refusals += [Refusal(path, content) for path in paths]
            return
        sha256 = hashlib.sha256(content).hexdigest()
        self._files += [(path, sha256) for path in paths]
        if sha256 in self._seen:
            return
        self._seen.add(sha256)
        if not recognised(content):
            words = unread_image(content)
            self._faults[sha256] = ("format_unsupported" if words else "not_an_image", words or "")
            return
        self._batch.hashes.append(sha256)
        self._batch.images.append(content)
        self._batch.size += len(content)
        if len(self._batch.images) >= BATCH_IMAGES or self._batch.size >= BATCH_BYTES:
            self._send()

    def finish(self) -> None:
        """Wait for everything that was sent and close the shards."""
        self._send()
        while self._pending:
            self._store_oldest()
        self._shards.close()

    def outcome(self) -> tuple[list[tuple[str, str]], list[Refusal]]:
        """Return the good files as (path, sha256), and the files that are none."""
        good = [(path, sha256) for path, sha256 in self._files if sha256 not in self._faults]
        bad = [
            Refusal(path, *self._faults[sha256])
            for path, sha256 in self._files
            if sha256 in self._faults
        ]
        return good, self._refusals + bad

    def _send(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if not batch.images:
            return
        while self._pending and self._flying + batch.size > BUDGET_BYTES:
            self._store_oldest()
        batch.verdicts = self._decoders.submit(batch.images)
        self._pending.append(batch)
        self._flying += batch.size
        while self._pending[0].verdicts is not None and self._pending[0].verdicts.done():
            self._store_oldest()
            if not self._pending:
                break

    def _store_oldest(self) -> None:
        batch = self._pending.popleft()
        self._flying -= batch.size
        assert batch.verdicts is not None  # noqa: S101 - set before a batch is pending.
        verdicts = batch.verdicts.result()
        for sha256, image, verdict in zip(batch.hashes, batch.images, verdicts, strict=True):
            if verdict.code is None:
                address = self._shards.add(sha256, verdict.suffix, image)
                self.stored[sha256] = Stored(verdict, address)
            else:
                self._faults[sha256] = (verdict.code, verdict.message)
