"""A version of a dataset as a zip that is made while it is sent."""

import zipfile
from collections.abc import Collection, Iterator

from app.api.manifests import image_bytes
from app.api.thumbnails import content_type
from core.ingest.manifest import Line
from core.ingest.tables import written
from core.store.object_store import Storage
from topwork.kinds import ExportForm

# One time for all members, so that equal versions are equal bytes; the first that a zip can hold.
NO_TIME = (1980, 1, 1, 0, 0, 0)


def zip_pieces(storage: Storage, lines: Collection[Line], form: ExportForm) -> Iterator[bytes]:
    """Yield the bytes of a zip, an image at a time, in the order in which they are stored.

    Images are named by their sha256 and not packed once more. Each is checked before it is sent;
    one that is damaged breaks off the answer.

    Raises:
        IntegrityError: An image in storage is not the one that was read.
    """
    out = _Sink()
    rows = []
    with zipfile.ZipFile(out, "w") as archive:  # type: ignore[call-overload] # It only writes.
        for line in sorted(lines, key=lambda it: (it["shard"], it["offset"])):
            data = image_bytes(storage, line)
            name = f"{line['sha256']}.{content_type(data).rpartition('/')[2]}"
            path = written.path_of(form, name, line["class"], line["split"])
            rows.append(written.Labelled(path, line["class"], line["split"]))
            archive.writestr(zipfile.ZipInfo(path, NO_TIME), data)
            yield out.take()
        rows.sort()
        for path, text in written.tables_of(form, rows).items():
            info = zipfile.ZipInfo(path, NO_TIME)
            archive.writestr(info, text, zipfile.ZIP_DEFLATED)
            yield out.take()
    yield out.take()


class _Sink:
    """Takes what a `ZipFile` writes and hands it on; it cannot go back, as no answer can."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: all is at hand."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
