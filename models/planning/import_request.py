"""`request.json` of an import: written by the worker, read by `models.import_model`."""

from pathlib import Path

from pydantic import BaseModel


class ImportRequest(BaseModel):
    """Where the file that was sent lies on this machine."""

    bundle: Path
