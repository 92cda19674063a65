# Written by .ci/client.py, a part of `make format`, from ../asynchronous/collections.py.
"""Everything of the API that is not a job: datasets, models, keys, the audit log."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Unpack

from topwork.client.exchange import Json
from topwork.client.options import UploadReadingOptions
from topwork.client.sources import OnBytes, ignore
from topwork.client.synchronous.jobs import Job, Jobs
from topwork.client.synchronous.resumable_upload import upload
from topwork.client.synchronous.transport import Http
from topwork.kinds import ExportForm, ExportFormat, Scope, Split
from topwork.types.comparisons import Comparison
from topwork.types.datasets import Dataset, DatasetVersion, Image, ReportLine
from topwork.types.evaluation import Calibration, Errors, EvaluatedImage, Evaluation
from topwork.types.keys import ApiKey, ApiKeyCreated
from topwork.types.models import Alias, Export, Model, ModelVersion
from topwork.types.predictions import Heatmap
from topwork.types.promotions import AliasMove, Gate
from topwork.types.usage import AuditEntry, AuditHead

NDJSON = {"Accept": "application/x-ndjson"}
PAGE = 1000  # Images of one answer.


class Datasets:
    """`/datasets`."""

    def __init__(self, http: Http, jobs: Jobs) -> None:
        self._http, self._jobs = http, jobs

    def create(
        self,
        data: str | Path,
        *,
        name: str | None = None,
        on_bytes: OnBytes = ignore,
        **answers: Unpack[UploadReadingOptions],
    ) -> Job:
        """Upload a folder or archive; the job that reads it names the dataset.

        Args:
            data: Folder (sent as a tar) or archive file (sent as it is).
            name: Of the dataset; that of the file or folder where None.
            on_bytes: Called with bytes sent and bytes in all.
            answers: Answers to what the upload does not say itself, such as
                `layout={"classes": "outer"}`.
        """
        fields = {**({"name": name} if name else {}), **answers}
        form = {key: it if isinstance(it, str) else json.dumps(it) for key, it in fields.items()}
        job = upload(self._http, Job, "/datasets", Path(data), on_bytes, form=form, body=fields)
        return job.bind(self._jobs)

    def answer(self, dataset: str, **answers: Unpack[UploadReadingOptions]) -> Job:
        """Answer the question that reading an upload raised; return the job that reads it again."""
        path = f"/datasets/{dataset}/answers"
        job = self._http.ask(Job, "POST", path, json={**answers})
        return job.bind(self._jobs)

    def list(self) -> Iterator[Dataset]:
        """Yield datasets, the newest first."""
        return self._http.pages(Dataset, "/datasets")

    def get(self, dataset: str) -> Dataset:
        """Return a dataset."""
        return self._http.ask(Dataset, "GET", f"/datasets/{dataset}")

    def report(self, dataset: str, version: int = 1) -> Iterator[ReportLine]:
        """Yield every file that was skipped, rejected or noted."""
        return self._http.pages(ReportLine, f"/datasets/{dataset}/versions/{version}/report")

    def images(
        self,
        dataset: str,
        version: int = 1,
        *,
        finding: str | None = None,
        model: str | None = None,
        class_name: str | None = None,
        split: Split | str | None = None,
    ) -> Iterator[Image]:
        """Yield the images of a version by path, or its suspects, the worst first.

        Args:
            dataset: Id of the dataset.
            version: Number of the version.
            finding: Only images with it; `label_suspect` and `outlier` are suspects.
            model: Whose evaluation names the suspects; the newest of the dataset if None.
            class_name: Only images of it.
            split: Only images of it.

        Raises:
            NotJudged: No model that was trained on the dataset has looked for suspects.
        """
        path = f"/datasets/{dataset}/versions/{version}/images"
        wanted = {"finding": finding, "model": model, "class": class_name, "split": split}
        return self._http.pages(Image, path, limit=PAGE, **wanted)

    def revise(
        self,
        dataset: str,
        *,
        base: int | None = None,
        exclude: Sequence[str] = (),
        relabel: Mapping[str, str] | None = None,
        confirm: Sequence[str] = (),
    ) -> DatasetVersion:
        """Make the next version of a dataset; no image is copied.

        Args:
            dataset: Id of the dataset.
            base: Version to start from; the newest if None.
            exclude: SHA-256 of images to leave out.
            relabel: SHA-256 of an image to the class it belongs to.
            confirm: SHA-256 of images whose label is right, to be listed as suspects no more.
        """
        asked: Json = {"base": base, "exclude": [*exclude], "confirm": [*confirm]}
        asked["relabel"] = dict(relabel or {})
        return self._http.ask(DatasetVersion, "POST", f"/datasets/{dataset}/versions", json=asked)

    def export(
        self,
        dataset: str,
        file: str | Path,
        version: int = 1,
        *,
        form: ExportForm | str = ExportForm.FOLDERS,
    ) -> Path:
        """Download a version as a zip: `form` is `folders`, `csv`, `imagefolder`, `coco`, ...

        Raises:
            InvalidField: There is no such form, or it cannot name a class of this version.
        """
        path = f"/datasets/{dataset}/versions/{version}/export"
        self._http.download(path, Path(file), params={"as": str(form)})
        return Path(file)

    def delete(self, dataset: str) -> None:
        """Delete a dataset that nothing refers to."""
        self._http.send("DELETE", f"/datasets/{dataset}")


class Models:
    """`/models`."""

    def __init__(self, http: Http, jobs: Jobs) -> None:
        self._http, self._jobs = http, jobs

    def list(self) -> Iterator[Model]:
        """Yield models."""
        return self._http.pages(Model, "/models")

    def get(self, name: str) -> Model:
        """Return a model with its aliases."""
        return self._http.ask(Model, "GET", f"/models/{name}")

    def version(self, name: str, number: int) -> ModelVersion:
        """Return one version."""
        return self._http.ask(ModelVersion, "GET", f"/models/{name}/versions/{number}")

    def delete(self, name: str) -> None:
        """Delete a model and its versions."""
        self._http.send("DELETE", f"/models/{name}")

    def delete_version(self, name: str, number: int) -> None:
        """Delete a version to which no alias points."""
        self._http.send("DELETE", f"/models/{name}/versions/{number}")

    def set_alias(self, name: str, alias: str, number: int) -> Alias:
        """Point an alias at a version."""
        path, body = f"/models/{name}/aliases/{alias}", {"version": number}
        return self._http.ask(Alias, "PUT", path, json=body)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        self._http.send("DELETE", f"/models/{name}/aliases/{alias}")

    def import_bundle(self, bundle: str | Path, *, name: str, on_bytes: OnBytes = ignore) -> Job:
        """Take in a bundle as the next version of a model; return the job that does it, or did it.

        Args:
            bundle: What an export as `bundle` gives, or a zip of `card.json` and
                `weights.safetensors`.
            name: Of the model.
            on_bytes: Called with bytes sent and bytes in all.
        """
        body = {"name": name}
        job = upload(
            self._http, Job, "/models/import", Path(bundle), on_bytes, form=body, body=body
        )
        return job.bind(self._jobs)

    def evaluate(
        self, name: str, number: int, *, dataset: str, split: Split | str | None = None
    ) -> Job:
        """Measure a version on a dataset version; `predictions.evaluation` has the scores then."""
        path, body = f"/models/{name}/versions/{number}/evaluations", {"dataset": dataset}
        whole = body | ({"split": str(split)} if split else {})
        job = self._http.ask(Job, "POST", path, json=whole)
        return job.bind(self._jobs)

    def evaluation(self, name: str, number: int) -> Evaluation:
        """Return metrics, intervals, per-class table and confusion matrix of a version."""
        path = f"/models/{name}/versions/{number}/evaluation"
        return self._http.ask(Evaluation, "GET", path)

    def calibration(self, name: str, number: int) -> Calibration:
        """Return the temperature of a version and its reliability bins for each split."""
        path = f"/models/{name}/versions/{number}/calibration"
        return self._http.ask(Calibration, "GET", path)

    def errors(self, name: str, number: int) -> Errors:
        """Return the worst wrong answers of a version for each split."""
        return self._http.ask(Errors, "GET", f"/models/{name}/versions/{number}/errors")

    def promote(self, name: str, alias: str, number: int, *, gate: Gate | None = None) -> AliasMove:
        """Point an alias at a version that passes a gate; raises GateFailed where it does not.

        Args:
            name: Of the model.
            alias: That is to move.
            number: Of the version.
            gate: What the version has to show; None is the gate with its defaults.
        """
        asked: Json = {"version": number}
        if gate is not None:
            asked["gate"] = gate.model_dump(mode="json")
        path = f"/models/{name}/aliases/{alias}/promotions"
        return self._http.ask(AliasMove, "POST", path, json=asked)

    def roll_back(self, name: str, alias: str) -> AliasMove:
        """Point an alias at the version before."""
        return self._http.ask(AliasMove, "POST", f"/models/{name}/aliases/{alias}/rollback")

    def moves(self, name: str, alias: str) -> Iterator[AliasMove]:
        """Yield the moves of an alias, the newest first."""
        return self._http.pages(AliasMove, f"/models/{name}/aliases/{alias}/moves")

    def compare(
        self, name: str, old: int | str, new: int | str, *, split: str | None = None
    ) -> Comparison:
        """Return what gets better and worse from one version to another, per class.

        Args:
            name: Of the model.
            old: Number or alias of the old version.
            new: Number or alias of the new version.
            split: `test` or `val`; `test` where both have images of it, if None.
        """
        asked = {"old": old, "new": new} | ({"split": split} if split else {})
        return self._http.ask(Comparison, "GET", f"/models/{name}/compare", params=asked)

    def predictions(self, name: str, number: int) -> Iterator[EvaluatedImage]:
        """Yield what the job's own evaluation said about each image."""
        return self._http.lines(EvaluatedImage, f"/models/{name}/versions/{number}/predictions")

    def heatmap(
        self,
        name: str,
        number: int,
        sha256: str,
        *,
        explain_class: str | None = None,
        explain_overlay: bool = False,
    ) -> Heatmap:
        """Return what each part of an evaluated image has added to a class.

        Args:
            name: Of the model.
            number: Of the version.
            sha256: Of the image, as `predictions` names it.
            explain_class: Its label; None is the class that the version gives it.
            explain_overlay: Whether the heat map is also drawn upon the image.
        """
        asked: Json = {"explain_overlay": explain_overlay}
        asked |= {"explain_class": explain_class} if explain_class else {}
        path = f"/models/{name}/versions/{number}/predictions/{sha256}/heatmap"
        return self._http.ask(Heatmap, "GET", path, params=asked)

    def export(self, name: str, number: int, form: ExportFormat | str = ExportFormat.ONNX) -> Job:
        """Have a version written as a file; return the job that does it, or has done it."""
        path = f"/models/{name}/versions/{number}/exports"
        job = self._http.ask(Job, "POST", path, json={"format": form})
        return job.bind(self._jobs)

    def exports(self, name: str, number: int) -> Iterator[Export]:
        """Yield the files for other programs that a version was written as."""
        return self._http.pages(Export, f"/models/{name}/versions/{number}/exports")

    def download(self, export: Export, folder: Path) -> Path:
        """Download the file of an export into a folder, and return its path."""
        name = next(name for name in export.files if name.startswith("model."))
        path = folder / f"{export.model}-{export.number}{Path(name).suffix}"
        self._http.download(export.links[f"files/{name}"], path)
        return path


class Keys:
    """`/keys`; for admins."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self) -> Iterator[ApiKey]:
        """Yield keys without their secrets, the newest first."""
        return self._http.pages(ApiKey, "/keys")

    def create(
        self,
        scopes: Sequence[Scope | str],
        *,
        owner: str | None = None,
        name: str | None = None,
        expires_in_days: float | None = None,
    ) -> ApiKeyCreated:
        """Make a key; this answer alone carries it.

        Args:
            scopes: Any of read, predict, train, admin.
            owner: Whose objects it sees and adds; default your own.
            name: A word to recognise it by.
            expires_in_days: Never, where left out.
        """
        body: Json = {"scopes": [*scopes], "owner": owner, "name": name}
        body["expires_in_days"] = expires_in_days
        return self._http.ask(ApiKeyCreated, "POST", "/keys", json=body)

    def revoke(self, key: str) -> None:
        """Make a key worthless, by its id."""
        self._http.send("DELETE", f"/keys/{key}")


class Audit:
    """`/audit`; for admins."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def entries(self, *, after: int = 0) -> Iterator[AuditEntry]:
        """Yield what was done, the oldest first."""
        return self._http.lines(AuditEntry, "/audit", params={"after": after}, headers=NDJSON)

    def head(self) -> AuditHead:
        """Return number and digest of the newest entry."""
        return self._http.ask(AuditHead, "GET", "/audit/head")
