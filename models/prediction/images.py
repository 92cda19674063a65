"""The images of a batch: a staged folder whose manifest names them, labelled or not."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.shards import Shards, damaged
from topwork.errors import DatasetInvalid


@dataclass(frozen=True, slots=True)
class BatchImage:
    """One line of the manifest.

    Attributes:
        number: Its place in the batch, from 0 on.
        class_name: As the data say; None where they say nothing.
        split: The same.
        error: Why there are no bytes to read, as `code` and `message`; None where there are.
    """

    number: int
    path: str
    class_name: str | None
    split: str | None
    sha256: str = ""
    shard: str = ""
    offset: int = 0
    length: int = 0
    error: dict[str, str] | None = None


class BatchImages:
    """The images of a folder, in the order of its manifest.

    Args:
        folder: Holds `manifest.jsonl` and `shards/`; several runs may share it.
        sha256: Of the manifest.
        split: Keep these images alone.

    Raises:
        IntegrityError: A file is not as recorded; the folder is then marked, to be made again.
        DatasetInvalid: There is no image.
    """

    def __init__(self, folder: Path, sha256: str, split: str | None = None) -> None:
        manifest = (folder / "manifest.jsonl").read_bytes()
        if hashlib.sha256(manifest).hexdigest() != sha256:
            raise damaged(folder, "manifest.jsonl")
        rows = [json.loads(line) for line in manifest.splitlines()]
        chosen = [row for row in rows if split is None or row["split"] == split]
        if not chosen:
            where = f" in {split}" if split else ""
            raise DatasetInvalid(f"There are no images{where}.", hint="Send at least one image.")
        self.all = [_image(number, row) for number, row in enumerate(chosen)]
        self._shards = Shards(folder, {image.shard for image in self.all if image.error is None})

    def read(self, image: BatchImage) -> bytes:
        """Return the original bytes of an image without an error."""
        return self._shards.read(image)

    def close(self) -> None:
        """Close the shards."""
        self._shards.close()


def _image(number: int, row: dict[str, Any]) -> BatchImage:
    place = {name: row[name] for name in ("sha256", "shard", "offset", "length") if name in row}
    labels = {"class_name": row["class"], "split": row["split"]}
    return BatchImage(number, row["path"], **labels, error=row.get("error"), **place)
