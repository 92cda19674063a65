"""The client itself: what is done with a service at an address."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import reduce
from pathlib import Path
from typing import Literal, Self, Unpack

from topwork.client.asynchronous.collections import (
    AsyncAudit,
    AsyncDatasets,
    AsyncKeys,
    AsyncModels,
)
from topwork.client.asynchronous.jobs import AsyncJob, AsyncJobs
from topwork.client.asynchronous.predictions import AsyncPredictions
from topwork.client.asynchronous.resumable_upload import upload
from topwork.client.asynchronous.transport import AsyncHttp
from topwork.client.exchange import Json, Shape
from topwork.client.images import Images, batches, joined, next_batch
from topwork.client.options import FinetuneOptions
from topwork.client.sources import OnBytes, ignore
from topwork.types.architectures import Architecture
from topwork.types.finetune import Plan
from topwork.types.predictions import Prediction

DEFAULT_URL = "http://127.0.0.1:8000"


class AsyncTopwork:
    """A service at an address; close it, or use it as a context manager.

    Args:
        url: Root of the service.
        key: Bearer key; empty where the service needs none.
        timeout: Seconds for a connection and between two reads.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str = "", timeout: float = 60.0) -> None:
        self.http = AsyncHttp(url, key, timeout)
        self.jobs = AsyncJobs(self.http)
        self.datasets = AsyncDatasets(self.http, self.jobs)
        self.models = AsyncModels(self.http, self.jobs)
        self.predictions = AsyncPredictions(self.http, self.jobs)
        self.keys = AsyncKeys(self.http)
        self.audit = AsyncAudit(self.http)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()

    async def finetune(
        self,
        data: str | Path | None = None,
        *,
        dataset: str | None = None,
        on_bytes: OnBytes = ignore,
        **config: Unpack[FinetuneOptions],
    ) -> AsyncJob:
        """Start a fine-tuning job on a folder, an archive or a dataset that is already there.

        Args:
            data: Folder (sent as a tar) or archive file (sent as it is).
            dataset: Dataset id, or `id@version`, instead of data.
            on_bytes: Called with bytes sent and bytes in all.
            config: Fields of `POST /finetune`, for example `architecture="resnet18"`.
        """
        job = await self._finetune(AsyncJob, data, dataset, on_bytes, {**config}, {})
        return job.bind(self.jobs)

    async def plan(
        self,
        data: str | Path | None = None,
        *,
        dataset: str | None = None,
        on_bytes: OnBytes = ignore,
        **config: Unpack[FinetuneOptions],
    ) -> Plan:
        """Return what `finetune` would do with the same arguments; nothing is stored."""
        return await self._finetune(Plan, data, dataset, on_bytes, {**config}, {"dry_run": True})

    async def predict(
        self,
        images: Images,
        *,
        model: str | None = None,
        top_k: int | None = None,
        reject: Literal["auto", "none"] | float | None = None,
        explain: Literal["heatmap"] | None = None,
        explain_class: str | None = None,
        explain_overlay: bool = False,
    ) -> Prediction:
        """Classify any number of images, in as many requests as the service's limits ask for.

        Args:
            images: A path, bytes, a file opened with mode "rb", a Pillow image or a uint8 array of
                height x width (x 3 or 4); or several of these.
            model: Own name, `name@alias`, `name@3`, or an architecture (ImageNet); default the
                service's.
            top_k: Most classes named for an image.
            reject: `"none"` to mark no answer `abstain`; or the share of images of the model's
                classes to accept, 0.5 to 0.99.
            explain: `"heatmap"` to be told what each part of an image has added to a class.
            explain_class: Label or WordNet id of this class; None is the first of the ranking.
            explain_overlay: Whether the heat map is also drawn upon the image.

        Raises:
            ImageUnusable: One of the images is none of these, or there is none.
        """
        asked = {
            "model": model,
            "top_k": top_k,
            "reject": reject,
            "explain": explain,
            "explain_class": explain_class,
            "explain_overlay": explain_overlay,
        }
        fields = {name: value for name, value in asked.items() if value}
        waiting = batches(images)
        answers: list[Prediction] = []
        while files := await asyncio.to_thread(next_batch, waiting):
            options = {"data": fields, "files": files}
            answers.append(await self.http.ask(Prediction, "POST", "/predict", **options))
        return reduce(joined, answers)

    def architectures(self) -> AsyncIterator[Architecture]:
        """Yield every network that can be fine-tuned."""
        return self.http.pages(Architecture, "/architectures")

    async def _finetune(
        self,
        shape: type[Shape],
        data: str | Path | None,
        dataset: str | None,
        on_bytes: OnBytes,
        config: Json,
        query: Json,
    ) -> Shape:
        if data is None:
            body = {"dataset": dataset, **config}
            return await self.http.ask(shape, "POST", "/finetune", params=query, json=body)
        form = {"config": json.dumps(config)}
        return await upload(
            self.http, shape, "/finetune", Path(data), on_bytes, form=form, body=config, **query
        )
