"""A cache of parsed manifests, by digest: they never change, so the few in use are kept."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.ingest.manifest import Line, decode
from core.store import verified
from core.store.object_store import Storage, StorageUnavailable
from core.store.tables import DatasetVersion
from topwork.errors import IntegrityError, NotFound

KEPT_BYTES = 256 * 1024 * 1024
PIECE = 512 * 1024  # Of an image on its way to a client, who may take it slowly.
GROWTH = 4  # A parsed manifest takes some four times the bytes of its file.


@dataclass(frozen=True)
class Manifest:
    """The images of one version, sorted by path, and where each is in the list."""

    lines: list[Line]
    position: dict[str, int]
    size: int

    def line(self, sha256: str) -> Line:
        """Return one image's line or raise NotFound."""
        if sha256 not in self.position:
            raise NotFound(f"there is no image {sha256[:80]} in this version")
        return self.lines[self.position[sha256]]

    def select(
        self, *, limit: int, after: str | None, wanted: dict[str, str | None]
    ) -> tuple[list[Line], bool]:
        """Return up to `limit` matching lines behind the image `after`, and whether more follow."""
        start = self.position[self.line(after)["sha256"]] + 1 if after else 0
        found: list[Line] = []
        for index in range(start, len(self.lines)):
            if matches(self.lines[index], wanted):
                if len(found) == limit:
                    return found, True
                found.append(self.lines[index])
        return found, False


def matches(line: Line, wanted: dict[str, str | None]) -> bool:
    """Return whether an image has the class, split and finding that are wanted; None is any."""
    if wanted["finding"] is not None and wanted["finding"] not in line["findings"]:
        return False
    same_class = wanted["class"] in (None, line["class"])
    return same_class and wanted["split"] in (None, line["split"])


class Manifests:
    """The most recently used manifests.

    Args:
        storage: Where they are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Manifest] = OrderedDict()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}  # And how many want it.

    def of(self, version: DatasetVersion) -> Manifest:
        """Return a version's manifest."""
        with self._loading(version.digest):
            return self._at_hand(version.digest) or self._load(version)

    def _at_hand(self, digest: str) -> Manifest | None:
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def _load(self, version: DatasetVersion) -> Manifest:
        data = verified.content(self._storage, f"{version.prefix}/manifest.jsonl", version.digest)
        lines = decode(data)
        position = {line["sha256"]: index for index, line in enumerate(lines)}
        found = Manifest(lines, position, GROWTH * len(data))
        with self._lock:
            self._kept[version.digest] = found
            while len(self._kept) > 1 and self._size() > KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    @contextmanager
    def _loading(self, digest: str) -> Iterator[None]:
        """Let one thread at a time load a manifest, so that the others find it at hand."""
        with self._lock:
            turn, waiting = self._turns.get(digest, (threading.Lock(), 0))
            self._turns[digest] = (turn, waiting + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                waiting = self._turns[digest][1] - 1
                self._turns[digest] = (turn, waiting)
                if not waiting:
                    del self._turns[digest]

    def _size(self) -> int:
        return sum(one.size for one in self._kept.values())


def image_bytes(storage: Storage, line: Line) -> bytes:
    """Return an image's own bytes out of its shard, or raise IntegrityError."""
    data = b"".join(_stored_pieces(storage, line, line["length"]))
    if hashlib.sha256(data).hexdigest() != line["sha256"]:
        raise _damaged(line)
    return data


def image_pieces(storage: Storage, line: Line, folder: Path, piece: int = PIECE) -> Iterator[bytes]:
    """Return an image's own bytes out of its shard, hashed as a whole before the first is sent.

    Args:
        storage: Where the shard is.
        line: The image's line of its manifest.
        folder: Where the copy of a large one lies meanwhile, without a name.
        piece: Most bytes of one read.

    Raises:
        IntegrityError: What is stored is not the image.
    """
    came = _stored_pieces(storage, line, piece)
    return verified.of_pieces(came, f"shards/{line['shard']}.tar", line["sha256"], folder)


def _stored_pieces(storage: Storage, line: Line, piece: int) -> Iterator[bytes]:
    key, end = f"shards/{line['shard']}.tar", line["offset"] + line["length"]
    for start in range(line["offset"], end, piece):
        wanted = min(piece, end - start)
        try:
            data = storage.get_range(key, start, wanted)
        except StorageUnavailable:
            if storage.size(key) < end:  # It answers, and has less than was stored.
                raise _damaged(line) from None
            raise
        if len(data) != wanted:
            raise _damaged(line)
        yield data


def _damaged(line: Line) -> IntegrityError:
    return IntegrityError(f"shards/{line['shard']}.tar is damaged: {line['path']!r} is not whole")


def json_lines(storage: Storage, key: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file without holding all of it, or raise IntegrityError."""
    rest = b""
    try:
        for piece in storage.stream(key):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (json.loads(line) for line in lines if line)
        if rest:
            yield json.loads(rest)
    except ValueError as error:
        raise IntegrityError(f"{key} is damaged: it is not what was written") from error
