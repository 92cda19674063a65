"""The client itself: `Topwork(url, key)` and its collections."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from topwork.client.folder_tar import FolderTar, FolderUnusable
from topwork.client.records import ApiKey, Dataset, Event, Job, Model, Prediction
from topwork.client.resumable_upload import is_large, send_in_pieces, use_up
from topwork.client.transport import Http, Json

DEFAULT_URL = "http://127.0.0.1:8000"
MOST_IMAGES = 16  # Of one request; the service's default limits.
MOST_BYTES = 16 * 1024 * 1024

Image = str | Path | bytes
OnBytes = Callable[[int, int], None]


class Topwork:
    """A service at an address; close it, or use it in a `with` statement.

    Args:
        url: Root of the service.
        key: Bearer key; empty where the service needs none.
        timeout: Seconds for a connection and between two reads.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str = "", timeout: float = 60.0) -> None:
        self.http = Http(url, key, timeout)
        self.jobs = Jobs(self)
        self.datasets = Datasets(self)
        self.models = Models(self)
        self.keys = Keys(self)
        self.audit = Audit(self)

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
        on_bytes: OnBytes = lambda _sent, _total: None,
        **config: Any,
    ) -> Job:
        """Start a fine-tuning job on a folder, an archive or a dataset that is already there.

        Args:
            data: Folder (sent as a tar) or archive file (sent as it is).
            dataset: Dataset id, or `id@version`, instead of data.
            on_bytes: Called with bytes sent and bytes in all.
            config: Fields of `POST /finetune`, for example `architecture="resnet18"`.
        """
        return self._job(self._order(data, dataset, on_bytes, config, {}))

    def plan(
        self,
        data: str | Path | None = None,
        *,
        dataset: str | None = None,
        on_bytes: OnBytes = lambda _sent, _total: None,
        **config: Any,
    ) -> Json:
        """Return what `finetune` would do with the same arguments; nothing is stored."""
        return self._order(data, dataset, on_bytes, config, {"dry_run": True})

    def predict(
        self, images: Image | Iterable[Image], *, model: str | None = None, top_k: int | None = None
    ) -> Prediction:
        """Classify any number of images, in as many requests as the service's limits ask for."""
        wanted = [images] if isinstance(images, str | Path | bytes) else list(images)
        fields = {name: value for name, value in (("model", model), ("top_k", top_k)) if value}
        whole: Prediction | None = None
        for batch in _batches(wanted):
            files = [("file", (name, io.BytesIO(data))) for name, data in batch]
            answer = self.http.json("POST", "/predict", data=fields, files=files)
            part = Prediction.model_validate(answer)
            whole = part if whole is None else _joined(whole, part)
        return whole or Prediction(results=[])

    def architectures(self) -> Iterator[Json]:
        """Yield every network that can be fine-tuned."""
        return self.http.pages("/architectures")

    def _order(
        self,
        data: str | Path | None,
        dataset: str | None,
        on_bytes: OnBytes,
        config: Json,
        query: Json,
    ) -> Json:
        if data is None:
            body = {"dataset": dataset, **config}
            return self.http.json("POST", "/finetune", params=query, json=body)
        with _opened(Path(data), on_bytes) as (name, file):
            if is_large(file):
                body = {"upload": send_in_pieces(self.http, file, name), **config}
                return use_up(self.http, "/finetune", params=query, json=body)
            form: Json = {"data": {"config": json.dumps(config)}, "files": {"file": (name, file)}}
            return self.http.json("POST", "/finetune", params=query, **form)

    def _job(self, body: Json) -> Job:
        return Job.model_validate(body).bind(self)


class Jobs:
    """`/jobs`."""

    def __init__(self, topwork: Topwork) -> None:
        self._topwork, self._http = topwork, topwork.http

    def list(self, *, state: str | None = None, kind: str | None = None) -> Iterator[Job]:
        """Yield jobs, the newest first."""
        for body in self._http.pages("/jobs", state=state, kind=kind):
            yield Job.model_validate(body).bind(self._topwork)

    def get(self, job: str) -> Job:
        """Return a job."""
        return self._act("GET", f"/jobs/{job}")

    def cancel(self, job: str) -> Job:
        """Ask for a job to stop; harmless when it has been asked before."""
        return self._act("POST", f"/jobs/{job}/cancel")

    def pause(self, job: str) -> Job:
        """Let a job rest; one that runs saves a checkpoint first."""
        return self._act("POST", f"/jobs/{job}/pause")

    def resume(self, job: str) -> Job:
        """Queue a paused job again; it goes on where it stopped."""
        return self._act("POST", f"/jobs/{job}/resume")

    def retry(self, job: str) -> Job:
        """Queue a failed or cancelled job again."""
        return self._act("POST", f"/jobs/{job}/retry")

    def delete(self, job: str) -> None:
        """Delete a job that has ended."""
        self._http.send("DELETE", f"/jobs/{job}")

    def logs(self, job: str) -> str:
        """Return what the job's process wrote."""
        return self._http.send("GET", f"/jobs/{job}/logs").text

    def events(self, job: str) -> Iterator[Event]:
        """Yield the events so far."""
        return map(Event.model_validate, self._http.pages(f"/jobs/{job}/events"))

    def stream(self, job: str, *, after: int = 0) -> Iterator[Event]:
        """Yield events as they happen until the job has ended, also over lost connections."""
        ended = lambda: self.get(job).terminal  # noqa: E731 - a name for one expression.
        for event in self._http.events(f"/jobs/{job}/events", after=after, ended=ended):
            yield Event.model_validate_json(event.data)

    def _act(self, method: str, path: str) -> Job:
        return Job.model_validate(self._http.json(method, path)).bind(self._topwork)


class Datasets:
    """`/datasets`."""

    def __init__(self, topwork: Topwork) -> None:
        self._topwork, self._http = topwork, topwork.http

    def create(
        self,
        data: str | Path,
        *,
        name: str | None = None,
        on_bytes: OnBytes = lambda _sent, _total: None,
    ) -> Job:
        """Upload a folder or archive; the job that reads it names the dataset."""
        fields = {"name": name} if name else {}
        with _opened(Path(data), on_bytes) as (file_name, file):
            if is_large(file):
                body = {"upload": send_in_pieces(self._http, file, file_name), **fields}
                answer = use_up(self._http, "/datasets", json=body)
            else:
                form: Json = {"data": fields, "files": {"file": (file_name, file)}}
                answer = self._http.json("POST", "/datasets", **form)
        return Job.model_validate(answer).bind(self._topwork)

    def list(self) -> Iterator[Dataset]:
        """Yield datasets, the newest first."""
        return map(Dataset.model_validate, self._http.pages("/datasets"))

    def get(self, dataset: str) -> Dataset:
        """Return a dataset."""
        return Dataset.model_validate(self._http.json("GET", f"/datasets/{dataset}"))

    def report(self, dataset: str, version: int = 1) -> Iterator[Json]:
        """Yield every file that was skipped, rejected or noted."""
        return self._http.pages(f"/datasets/{dataset}/versions/{version}/report")

    def delete(self, dataset: str) -> None:
        """Delete a dataset that nothing refers to."""
        self._http.send("DELETE", f"/datasets/{dataset}")


class Models:
    """`/models`."""

    def __init__(self, topwork: Topwork) -> None:
        self._http = topwork.http

    def list(self) -> Iterator[Model]:
        """Yield models."""
        return map(Model.model_validate, self._http.pages("/models"))

    def get(self, name: str) -> Model:
        """Return a model with its versions and aliases."""
        return Model.model_validate(self._http.json("GET", f"/models/{name}"))

    def version(self, name: str, number: int) -> Json:
        """Return one version."""
        return self._http.json("GET", f"/models/{name}/versions/{number}")

    def delete(self, name: str) -> None:
        """Delete a model and its versions."""
        self._http.send("DELETE", f"/models/{name}")

    def set_alias(self, name: str, alias: str, number: int) -> Json:
        """Point an alias at a version."""
        return self._http.json("PUT", f"/models/{name}/aliases/{alias}", json={"version": number})

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        self._http.send("DELETE", f"/models/{name}/aliases/{alias}")

    def evaluation(self, name: str, number: int) -> Json:
        """Return metrics, intervals, per-class table and confusion matrix of a version."""
        return self._http.json("GET", f"/models/{name}/versions/{number}/evaluation")

    def calibration(self, name: str, number: int) -> Json:
        """Return the temperature of a version and its reliability bins for each split."""
        return self._http.json("GET", f"/models/{name}/versions/{number}/calibration")

    def errors(self, name: str, number: int) -> Json:
        """Return the worst wrong answers of a version for each split."""
        return self._http.json("GET", f"/models/{name}/versions/{number}/errors")

    def predictions(self, name: str, number: int) -> Iterator[Json]:
        """Yield what the job's own evaluation said about each image."""
        return self._http.lines(f"/models/{name}/versions/{number}/predictions")


class Keys:
    """`/keys`; for admins."""

    def __init__(self, topwork: Topwork) -> None:
        self._http = topwork.http

    def list(self) -> Iterator[ApiKey]:
        """Yield keys without their secrets, the newest first."""
        return map(ApiKey.model_validate, self._http.pages("/keys"))

    def create(self, scopes: Sequence[str], **options: Any) -> ApiKey:
        """Make a key; this answer alone carries it.

        Args:
            scopes: Any of read, predict, train, admin.
            options: `owner`, `name`, `expires_in_days`.
        """
        body = {"scopes": list(scopes), **options}
        return ApiKey.model_validate(self._http.json("POST", "/keys", json=body))

    def revoke(self, key: str) -> None:
        """Make a key worthless, by its id."""
        self._http.send("DELETE", f"/keys/{key}")


class Audit:
    """`/audit`; for admins."""

    def __init__(self, topwork: Topwork) -> None:
        self._http = topwork.http

    def entries(self, *, after: int = 0) -> Iterator[Json]:
        """Yield what was done, the oldest first."""
        headers = {"Accept": "application/x-ndjson"}
        return self._http.lines("/audit", params={"after": after}, headers=headers)

    def head(self) -> Json:
        """Return number and digest of the newest entry."""
        return self._http.json("GET", "/audit/head")


@contextlib.contextmanager
def _opened(path: Path, on_bytes: OnBytes) -> Iterator[tuple[str, BinaryIO]]:
    """Open a folder or a file for sending, under the name it is sent with."""
    if path.is_dir():
        tar = FolderTar(path, lambda sent: on_bytes(sent, tar.length))
        yield f"{path.resolve().name or 'folder'}.tar", tar  # type: ignore[misc] # Read-only BinaryIO.
        return
    if not path.is_file():
        raise FolderUnusable(f"There is no {path}.")
    total = path.stat().st_size
    with path.open("rb") as file:
        yield path.name, _Counted(file, lambda sent: on_bytes(sent, total))


class _Counted(io.BufferedReader):
    """A file that says how far it has been read."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None]) -> None:
        super().__init__(file)  # type: ignore[arg-type] # A buffered file reads as a raw one does.
        self._on_read = on_read

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._on_read(self.tell())
        return data


def _batches(images: Sequence[Image]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield named images in groups that one request may carry."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for number, image in enumerate(images):
        if isinstance(image, bytes):
            name, data = f"image{number}", image
        else:
            name, data = Path(image).name, _image_bytes(Path(image))
        if batch and (len(batch) >= MOST_IMAGES or size + len(data) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((name, data))
        size += len(data)
    if batch:
        yield batch


def _image_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FolderUnusable(f"Cannot read {path}: {error.strerror}.") from None


def _joined(left: Prediction, right: Prediction) -> Prediction:
    timing = {
        name: left.timing_ms.get(name, 0.0) + value for name, value in right.timing_ms.items()
    }
    return left.model_copy(update={"results": left.results + right.results, "timing_ms": timing})
