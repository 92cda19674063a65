"""Dry run: what would happen to this request, worked out without storing anything."""

import asyncio
import json
import signal
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from app.api import finetuning
from app.api.reading import Reader
from app.api.uploads.multipart_archive import Upload
from app.api.uploads.received import Received
from core.domain import registry
from core.ingest.archive import Limits
from core.system import json_child
from core.system.child import reader
from core.system.settings import Settings
from topwork import types
from topwork.errors import ArchiveTooLarge, TooManyRequests, UploadNotFound

SECONDS = 30.0  # After which a preview is none; a zip's list takes one, a tar's by its length.
TURN_SECONDS = 10.0
RETRY_AFTER_SECONDS = 10
REAL = "Send the request without `dry_run`: the job reads it in its own time."


class Previews:
    """Looks into archives one at a time, each in a process of its own with bounded memory.

    Args:
        settings: Limits of archives.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    async def summary(self, upload: Upload, request: types.FinetuneRequest) -> dict[str, Any]:
        """Return what ingestion would say about an upload, as far as its names tell.

        Raises:
            ArchiveUnreadable, LayoutAmbiguous, TooFewClasses: What the ingestion would say.
            ArchiveTooLarge: The same, or it cannot be told in advance.
            TooManyRequests: Others are looked into.
        """
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            message = "other dry runs are under way, and archives are looked into one by one"
            raise TooManyRequests(message, retry_after=RETRY_AFTER_SECONDS) from None
        try:
            return await self._ask(upload, request)
        finally:
            self._turn.release()

    async def _ask(self, upload: Upload, request: types.FinetuneRequest) -> dict[str, Any]:
        settings, split = self._settings, request.split
        limits = Limits(
            settings.max_archive_entries, settings.max_entry_bytes, settings.max_expanded_bytes
        )
        question = {
            "archive": str(upload.path),
            "limits": asdict(limits),
            "ratios": {**split.model_dump(), "seed": request.seed},
            "answers": request.answers(),
            "seconds": SECONDS,
        }
        child = reader("-m", "core.ingest.dry_run", json.dumps(question))
        process = await asyncio.create_subprocess_exec(
            *child.command,
            env=child.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            said, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):  # The client has left, or it is over.
                process.kill()
        return _answer(upload, said, process.returncode)


def _answer(upload: Upload, said: bytes, code: int | None) -> dict[str, Any]:
    if code == -signal.SIGALRM:
        message = f"The archive takes over {SECONDS:.0f} s to list, so its plan is not told before."
        raise ArchiveTooLarge(message, hint=REAL)
    if code == -signal.SIGKILL:
        raise ArchiveTooLarge("The archive's list takes more memory than there is.", hint=REAL)
    if code and not upload.path.exists():  # It was used or deleted meanwhile.
        raise UploadNotFound(param="upload")
    if code:
        message = f"a preview ended with {code}; its own words are in the log"
        raise RuntimeError(message)
    return dict(json_child.read(said))


async def preview(
    read: Reader, previews: Previews, received: Received[types.FinetuneRequest]
) -> types.Plan:
    """Return the plan of a request.

    Args:
        read: The database, as the caller sees it.
        previews: Look into the upload, where the request names or brings one.
        received: What was asked for.

    Raises:
        DatasetNotReady: The plan needs the dataset's counts.
        UploadNotFound: There is no such upload.
        ModelNotFound: There is no such model to start from.
    """
    request, upload = received.fields, received.upload
    if upload is not None:
        stem = finetuning.model_name(finetuning.dataset_name(upload))
        name = request.name or await read(registry.default_name, stem, None)
        summary = await previews.summary(upload, request)
    elif request.upload is not None:
        raise UploadNotFound(param="upload")
    else:
        name, summary = await read(finetuning.named_summary, request)
    parent = await read(finetuning.parent_of, request)
    plan = finetuning.plan_of(request, summary, parent)
    return types.Plan(
        name=name,
        classes=summary["classes"],
        counts=summary["counts"],
        plan=plan.to_json(),
        eta=plan.eta_seconds,
        findings=summary.get("findings", []),
        skipped=summary.get("skipped", {}),
        rejected=summary.get("rejected", {}),
    )
