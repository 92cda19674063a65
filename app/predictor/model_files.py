"""Local files of stored models; for remote storage they are copies.

Nothing here vouches for a byte: whoever loads a model hashes what it reads, as it reads it.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from app.predictor_protocol import ArtefactModel, StoredFile
from core.store.object_store import Storage
from models.inference.card_file import CARD, GRAPH, REJECTION, WEIGHTS
from topwork.errors import IntegrityError, NotFound

NAMES = (WEIGHTS, CARD)
STALE_SECONDS = 3600.0  # A draft this old belongs to a process that was killed.


class ModelFiles:
    """Brings models from object storage, each into a folder named after what it must contain.

    Args:
        storage: Where the models are kept; a folder on this machine is read as it is.
        folder: Where the copies go; several processes may share it.
        capacity: Bytes of copies to keep; those whose last use is longest ago go first.
    """

    def __init__(self, storage: Storage, folder: Path, capacity: int) -> None:
        self._storage = storage
        self._folder = folder
        self._capacity = capacity

    def name_of(self, model: ArtefactModel) -> str:
        """Return the SHA-256 of the card, which binds the weights: the name of the whole model.

        Raises:
            IntegrityError: The model's manifest lacks a file.
        """
        missing = [name for name in NAMES if name not in model.files]
        if missing:
            raise IntegrityError(f"The model has no {missing[0]}.")
        return model.files[CARD].sha256.removeprefix("sha256:")

    def weights_of(self, model: ArtefactModel) -> str:
        """Return the SHA-256 of the weights by the model's manifest."""
        return model.files[WEIGHTS].sha256.removeprefix("sha256:")

    def bring(self, model: ArtefactModel) -> Path:
        """Return the folder of a model's files, fetched unless it is there.

        Raises:
            IntegrityError: A file is missing, or a remote one is not what the manifest says.
            StorageUnavailable: The storage does not answer.
        """
        names = (*NAMES, *({GRAPH, REJECTION} & model.files.keys()))
        here = self._storage.local_path(model.prefix)
        if here is not None:
            return _whole(here, names)
        target = self._folder / self.name_of(model)
        if target.is_dir():
            os.utime(target)
            return _whole(target, names)
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
        try:
            for name in names:
                self._fetch(f"{model.prefix}/{name}", draft / name, model.files[name])
            self._place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._make_room()
        return target

    def forget(self, model: ArtefactModel) -> None:
        """Remove the copy of a model."""
        shutil.rmtree(self._folder / self.name_of(model), ignore_errors=True)

    def _fetch(self, key: str, path: Path, wanted: StoredFile) -> None:
        try:
            digest = self._storage.fetch(key, path)
        except NotFound as error:
            raise _gone(path.name) from error
        if digest != wanted.plain()["sha256"]:
            raise IntegrityError(f"{path.name} does not match its recorded hash.")

    def _make_room(self) -> None:
        """Drop the copies that exceed the capacity, the newest never, and abandoned drafts.

        A process that is about to load a dropped copy fetches it again.
        """
        left = self._capacity
        for number, (used, path) in enumerate(sorted(_last_uses(self._folder), reverse=True)):
            left -= sum(file.stat().st_size for file in path.glob("*"))
            draft = path.name.startswith(".")
            if time.time() - used > STALE_SECONDS if draft else number and left < 0:
                shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def _place(draft: Path, target: Path) -> None:
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # Else another predictor of this machine was faster.
                raise


def _whole(folder: Path, names: Iterable[str]) -> Path:
    """Return a folder that has all these files: without some of them a model answers otherwise."""
    for name in names:
        if not (folder / name).is_file():
            raise _gone(name)
    return folder


def _gone(name: str) -> IntegrityError:
    return IntegrityError(f"{name} of the model is gone from storage.")


def _last_uses(folder: Path) -> list[tuple[float, Path]]:
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # Another predictor of this machine was faster.
            found.append((path.stat().st_mtime, path))
    return found
