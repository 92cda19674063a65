"""Ask one model about many images: `python -P -m models.predict RUN_DIR`; see `run_dir`.

`result/` then holds `predictions.jsonl`, a line for each image, `summary.json`, and
`evaluation.json` where classes are known.
"""

import hashlib
import json
import sys
from contextlib import closing

from core.imaging.decode import ImageLimits
from core.system.machine import cores
from core.system.progress import Meter
from core.system.run_dir import RunDir, supervise
from models.compute.execution import keep_memory
from models.inference.classifier import Classifier
from models.planning.request import PredictRequest
from models.prediction.answers import answers
from models.prediction.images import BatchImages
from models.prediction.labels import outputs
from models.prediction.parts import Parts, Row
from models.prediction.scores import Tally
from models.weights import pretrained
from topwork.errors import WeightsUnavailable
from topwork.kinds import Phase

ASKED = "asked"  # The one stage of the meter.


def predict(run: RunDir) -> None:
    """Do the whole batch; what an earlier attempt has answered is not asked again."""
    if run.result.is_dir():
        return
    request = PredictRequest.model_validate_json(run.request())
    run.events.phase(Phase.PREPARING)
    classifier, digest = _load(run, request)
    identity = hashlib.sha256(f"{digest} {request.model_dump_json(include=ANSWERED)}".encode())
    with closing(BatchImages(request.images, request.images_sha256, request.split)) as images:
        parts = Parts(run.checkpoint, identity.hexdigest()[:32], len(images.all))
        run.events.phase(Phase.PREDICTING)
        _ask(run, request, classifier, images, parts)
    run.events.phase(Phase.EVALUATING)
    unavailable = classifier.stated(classifier.thresholds(request.reject))["reason"]
    tally = Tally([label.name for label in classifier.labels], request.top_k, unavailable)
    _write(run, classifier, digest, parts, tally.add_all(parts.rows()))


ANSWERED = {"images_sha256", "split", "top_k", "reject", "max_image_pixels"}
"""Fields of the request on which the answers depend, besides the model."""


def _load(run: RunDir, request: PredictRequest) -> tuple[Classifier, str]:
    """Return the classifier and the SHA-256 of its weights."""
    if request.model is not None:
        classifier = Classifier.from_artefact(request.model, request.model_sha256)
        return classifier, str(classifier.facts["sha256"])
    if request.architecture is None:
        raise WeightsUnavailable("The request names neither a model nor an architecture.")

    def downloaded(_done: int, _total: int | None) -> None:
        run.events.alive()
        run.check_stop()

    published = pretrained.load(
        request.architecture,
        request.weights_dir,
        offline=request.offline,
        timeout=request.download_timeout,
        progress=downloaded,
    )
    return Classifier.imagenet(request.architecture, published.tensors), published.sha256


def _ask(
    run: RunDir,
    request: PredictRequest,
    classifier: Classifier,
    images: BatchImages,
    parts: Parts,
) -> None:
    meter = Meter(run.events, {ASKED: (len(images.all), 1.0)})
    missing = [images.all[number] for number in parts.missing()]
    rows: list[Row] = []
    for batch in answers(
        classifier,
        missing,
        images.read,
        known=outputs(classifier.labels),
        limits=ImageLimits(max_pixels=request.max_image_pixels),
        top_k=request.top_k,
        threads=cores(),
        reject=request.reject,
    ):
        run.check_stop()
        rows += batch
        while rows and (kept := parts.keep(rows)):
            rows = rows[kept:]
        meter.at(ASKED, batch[-1]["index"] + 1)


def _write(run: RunDir, classifier: Classifier, digest: str, parts: Parts, tally: Tally) -> None:
    folder = run.begin_result()
    parts.join(folder / "predictions.jsonl")
    evaluation = tally.scores()
    if evaluation:
        text = json.dumps(evaluation, ensure_ascii=False, allow_nan=False)
        (folder / "evaluation.json").write_text(text, encoding="utf-8")
    metrics = {
        split: {name: scores[name] for name in ("images", "accuracy", "log_loss", "ece")}
        | {"macro_f1": scores["macro"]["f1"]}
        for split, scores in evaluation.items()
    }
    summary = {
        "images": tally.images,
        "failed": tally.failed,
        "digest": f"sha256:{digest}",
        "abstained": tally.abstained,
        "classes": len(classifier.labels),
        "metrics": metrics,
    }
    (folder / "summary.json").write_text(json.dumps(summary, allow_nan=False), encoding="utf-8")
    run.publish_result(folder)


if __name__ == "__main__":
    keep_memory()
    sys.exit(supervise(predict, sys.argv[1:], resumable=True))
