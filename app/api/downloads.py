"""Files of what was published, hashed as a whole before their first byte is sent."""

from fastapi.responses import StreamingResponse

from core.store import verified
from core.store.object_store import Storage
from core.store.tables import ModelExport, ModelVersion
from core.system.settings import Settings
from topwork.errors import NotFound


def location(made: ModelVersion | ModelExport, file: str) -> tuple[str, str]:
    """Return the key of a file of what was published, and its hash.

    Raises:
        NotFound: There is no such file.
    """
    if file not in made.files:
        raise NotFound(f"there is no file {file!r}", param="file")
    return f"{made.prefix}/{file}", str(made.files[file]["sha256"])


def attachment(
    made: ModelVersion | ModelExport, file: str, storage: Storage, settings: Settings
) -> StreamingResponse:
    """Answer with a file to be saved; for a thread, as the whole file is read first.

    Raises:
        NotFound: There is no such file.
        IntegrityError: It is damaged.
    """
    key, sha256 = location(made, file)
    pieces = verified.stream(storage, key, sha256, settings.data_dir)
    headers = {
        "Content-Disposition": f'attachment; filename="{file}"',
        "Content-Length": str(made.files[file]["size"]),
        "ETag": f'"{sha256}"',
    }
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)
