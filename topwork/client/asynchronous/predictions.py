"""`/predictions`: many images classified by one job."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from topwork.client.asynchronous.jobs import AsyncJob, AsyncJobs
from topwork.client.asynchronous.resumable_upload import upload
from topwork.client.asynchronous.transport import AsyncHttp
from topwork.client.sources import OnBytes, ignore
from topwork.types.batches import BatchResult
from topwork.types.evaluation import Evaluation


class AsyncPredictions:
    """`/predictions`."""

    def __init__(self, http: AsyncHttp, jobs: AsyncJobs) -> None:
        self._http, self._jobs = http, jobs

    async def create(
        self,
        data: str | Path | None = None,
        *,
        model: str,
        dataset: str | None = None,
        on_bytes: OnBytes = ignore,
        **fields: Any,
    ) -> AsyncJob:
        """Start a job that classifies every image of a folder, an archive or a dataset.

        Args:
            data: Folder (sent as a tar) or archive file (sent as it is); labels are not needed.
            model: Own name, `name@alias`, `name@3`, or an architecture (ImageNet).
            dataset: Dataset id, or `id@version`, instead of data.
            on_bytes: Called with bytes sent and bytes in all.
            fields: Further fields of `POST /predictions`, for example `top_k=3`.
        """
        body = {"model": model, **fields}
        if data is None:
            body["dataset"] = dataset
            job = await self._http.ask(AsyncJob, "POST", "/predictions", json=body)
            return job.bind(self._jobs)
        form = {key: it if isinstance(it, str) else json.dumps(it) for key, it in body.items()}
        job = await upload(
            self._http, AsyncJob, "/predictions", Path(data), on_bytes, form=form, body=body
        )
        return job.bind(self._jobs)

    def results(self, job: str) -> AsyncIterator[BatchResult]:
        """Yield the answer about each image; of a job that ended early, those so far."""
        return self._http.lines(BatchResult, f"/predictions/{job}/results")

    async def save(self, job: str, path: str | Path) -> None:
        """Write the answers to a file: a table where its name ends with .csv, else NDJSON."""
        target = Path(path)
        form = "csv" if target.suffix.lower() == ".csv" else "ndjson"
        await self._http.download(f"/predictions/{job}/results", target, params={"as": form})

    async def evaluation(self, job: str) -> Evaluation:
        """Return the scores of the images whose class was known."""
        return await self._http.ask(Evaluation, "GET", f"/predictions/{job}/evaluation")
