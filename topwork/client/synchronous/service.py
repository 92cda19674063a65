# Written by .ci/client.py, a part of `make format`, from ../asynchronous/service.py.
"""The client itself: what is done with a service at an address."""

import json
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Literal, Self, Unpack

from topwork.client.exchange import Json, Shape
from topwork.client.images import Images, batches, joined, next_batch
from topwork.client.options import FinetuneOptions
from topwork.client.sources import OnBytes, ignore
from topwork.client.synchronous.collections import (
    Audit,
    Datasets,
    Keys,
    Models,
)
from topwork.client.synchronous.jobs import Job, Jobs
from topwork.client.synchronous.predictions import Predictions
from topwork.client.synchronous.resumable_upload import upload
from topwork.client.synchronous.transport import Http
from topwork.types.architectures import Architecture
from topwork.types.finetune import Plan
from topwork.types.predictions import Prediction

DEFAULT_URL = "http://127.0.0.1:8000"


class Topwork:
    """A service at an address; close it, or use it as a context manager.

    Args:
        url: Root of the service.
        key: Bearer key; empty where the service needs none.
        timeout: Seconds for a connection and between two reads.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str = "", timeout: float = 60.0) -> None:
        self.http = Http(url, key, timeout)
        self.jobs = Jobs(self.http)
        self.datasets = Datasets(self.http, self.jobs)
        self.models = Models(self.http, self.jobs)
        self.predictions = Predictions(self.http, self.jobs)
        self.keys = Keys(self.http)
        self.audit = Audit(self.http)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def finetune(
        self,
        data: str | Path | None = None,
        *,
        dataset: str | None = None,
        on_bytes: OnBytes = ignore,
        **config: Unpack[FinetuneOptions],
    ) -> Job:
        """Start a fine-tuning job on a folder, an archive or a dataset that is already there.

        Args:
            data: Folder (sent as a tar) or archive file (sent as it is).
            dataset: Dataset id, or `id@version`, instead of data.
            on_bytes: Called with bytes sent and bytes in all.
            config: Fields of `POST /finetune`, for example `architecture="resnet18"`.
        """
        job = self._finetune(Job, data, dataset, on_bytes, {**config}, {})
        return job.bind(self.jobs)

    def plan(
        self,
        data: str | Path | None = None,
        *,
        dataset: str | None = None,
        on_bytes: OnBytes = ignore,
        **config: Unpack[FinetuneOptions],
    ) -> Plan:
        """Return what `finetune` would do with the same arguments; nothing is stored."""
        return self._finetune(Plan, data, dataset, on_bytes, {**config}, {"dry_run": True})

    def predict(
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
        while files := next_batch(waiting):
            options = {"data": fields, "files": files}
            answers.append(self.http.ask(Prediction, "POST", "/predict", **options))
        return reduce(joined, answers)

    def architectures(self) -> Iterator[Architecture]:
        """Yield every network that can be fine-tuned."""
        return self.http.pages(Architecture, "/architectures")

    def _finetune(
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
            return self.http.ask(shape, "POST", "/finetune", params=query, json=body)
        form = {"config": json.dumps(config)}
        return upload(
            self.http, shape, "/finetune", Path(data), on_bytes, form=form, body=config, **query
        )
