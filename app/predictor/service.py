"""Turn an order for predictions into answers: admit, load, decode, batch, rank.

Everything that takes time runs in threads (two load models, some decode, one computes); the event
loop only passes things on. Every queue is bounded, so a flood is answered with 503 or 429, and an
owner that has nothing in it is always let in.
"""

import asyncio
import contextvars
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import structlog

from app.predictor import explaining
from app.predictor.batching import Batcher
from app.predictor.decoding import Decoding
from app.predictor.explaining import View
from app.predictor.metrics import Measures
from app.predictor.model_cache import ModelCache
from app.predictor.model_files import ModelFiles
from app.predictor_protocol import (
    ArtefactModel,
    Explain,
    ImageNetModel,
    Order,
    PredictingModel,
)
from core.imaging.decode import ImageLimits, OpenImage
from core.store.object_store import Storage
from core.system.machine import cores, memory
from core.system.settings import Settings
from models.inference.classifier import Classifier, Crops
from models.inference.heatmap import HeatMap
from models.inference.rejection import Thresholds
from models.planning import catalogue
from models.weights import local_weights
from topwork.errors import (
    IntegrityError,
    PredictorBusy,
    TooManyRequests,
    TopworkError,
    Unavailable,
)
from topwork.kinds import ResultStatus

log = structlog.get_logger()

LOADERS = 2
# Disk is cheaper than memory: this many times the models that fit there are kept as copies.
DISK_SHARE = 8
MEMORY_SHARE = 2  # Models take at most half of the memory: forward passes need the rest.

Result = dict[str, Any]
Answer = tuple[Result, HeatMap | None]


class Guess(NamedTuple):
    """A decoded image, how many labels to name, what makes the first relied on, what explains."""

    crop: Crops
    top_k: int
    thresholds: Thresholds | None = None
    explain: Explain | None = None


class Predictor:
    """Answers orders; make it inside a running event loop and close it at the end."""

    def __init__(self, settings: Settings, storage: Storage, measures: Measures) -> None:
        self._settings = settings
        self._measures = measures
        self._files = ModelFiles(
            storage,
            settings.data_dir / "cache" / "models",
            DISK_SHARE * settings.model_cache_bytes,
        )
        self._decoding = Decoding(ImageLimits(max_pixels=settings.max_image_pixels), cores())
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="load")
        self._models: ModelCache[str, Classifier] = ModelCache(
            lambda classifier: classifier.nbytes,
            min(settings.model_cache_bytes, memory() // MEMORY_SHARE),
        )
        self._batcher: Batcher[Classifier, Guess, Answer | TopworkError] = Batcher(
            answer, largest=settings.predict_batch, observe=measures.batch.observe
        )
        self._inside: Counter[str] = Counter()

    async def warm(self, architecture: str) -> None:
        """Load a published network and run it once, so that the first request need not wait.

        Nothing is downloaded: the first request tells the user what is missing.
        """
        if (
            architecture not in catalogue.names()
            or local_weights.find(self._settings.weights_dir, architecture) is None
        ):
            return
        try:
            classifier = await self._load(ImageNetModel(architecture=architecture))
        except TopworkError as error:
            log.warning("model.unusable", architecture=architecture, reason=error.message)
            return
        side = classifier.preprocess.crop
        grey = np.full((3, side, side), 128, dtype=np.uint8)
        await self._batcher.submit(classifier, Guess(grey, 1))

    async def close(self) -> None:
        """Stop all threads once their present work is done."""
        await self._batcher.close()
        self._decoding.close()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def admitted(self, owner: str, images: int) -> Iterator[None]:
        """Take places in the queue for the images of one request.

        Raises:
            PredictorBusy: The queue is full, and some of it is the owner's.
        """
        full = self._inside.total() + images > self._settings.predict_queue
        if full and self._inside[owner]:
            raise PredictorBusy
        self._count(owner, images)
        try:
            yield
        finally:
            self._count(owner, -images)

    def _count(self, owner: str, images: int) -> None:
        self._inside[owner] += images
        self._inside += Counter()  # Forgets whoever has none inside.
        self._measures.inside.set(self._inside.total())

    async def predict(self, order: Order, body: bytes) -> dict[str, Any]:
        """Answer every image of an admitted order; `body` is as long as its sizes say.

        Raises:
            TopworkError: The model cannot be loaded, or not abstain as asked.
            TooManyRequests: The owner's images have too many pixels for now.
            PredictorBusy: One of them was not begun in time.
        """
        begun = time.perf_counter()
        classifier = await self._load(order.model)
        loaded = time.perf_counter()
        # Aside, as those of many scores take long when they are first asked for.
        thresholds = await asyncio.to_thread(classifier.thresholds, order.reject)
        if order.explain is not None:
            classifier.check_explain(order.explain.index)
        timings = Timings(loaded)
        ends = list(accumulate(order.sizes, initial=0))
        images = [memoryview(body)[start:end] for start, end in pairwise(ends)]
        weights = await self._decoding.weigh(images)
        known = sum(weight for weight in weights if isinstance(weight, int))
        with self._decoding.admitted(order.owner, known):
            results = await _all(
                self._one(classifier, order, data, weight, timings, thresholds)
                for data, weight in zip(images, weights, strict=True)
            )
        named = [
            {"filename": name, **result}
            for name, result in zip(order.filenames, results, strict=True)
        ]
        spent = {"load": loaded - begun, **timings.parts(time.perf_counter())}
        self._measures.spend(spent)
        return {
            "results": named,
            "timing_ms": {stage: round(1000 * seconds, 2) for stage, seconds in spent.items()},
            "model": {**classifier.facts, "rejection": classifier.stated(thresholds)},
        }

    async def _one(
        self,
        classifier: Classifier,
        order: Order,
        data: memoryview,
        weight: int | TopworkError,
        timings: "Timings",
        thresholds: Thresholds | None,
    ) -> Result:
        try:
            if isinstance(weight, TopworkError):
                raise weight
            with self._batcher.coming(classifier):
                seen = await self._decoding.decode(
                    order.owner, weight, data, partial(_seen, classifier, order.explain)
                )
            timings.decoded = time.perf_counter()
            crop = seen.crop if isinstance(seen, View) else seen
            guess = Guess(crop, order.top_k, thresholds, order.explain)
            done = await self._batcher.submit(classifier, guess)
            timings.passes.add((done.began, done.ended))
            if isinstance(done.answer, TopworkError):
                raise done.answer
            result, heat = done.answer
            if heat is not None and isinstance(seen, View):
                shown = await asyncio.to_thread(explaining.told, classifier, heat, seen)
                result = {**result, "heatmap": shown}
        except (Unavailable, TooManyRequests):
            raise
        except TopworkError as error:
            self._measures.image(error.code)
            details = {"code": error.code, "message": error.message, "hint": error.hint}
            return {"status": ResultStatus.ERROR, "error": details}
        self._measures.image("ok")
        return {"status": ResultStatus.OK, **result}

    async def _load(self, model: PredictingModel) -> Classifier:
        key = self._files.name_of(model) if isinstance(model, ArtefactModel) else model.architecture
        loop = asyncio.get_running_loop()
        here = contextvars.copy_context()  # The loader's log names the request that waits for it.
        classifier = await self._models.get(
            key, lambda: loop.run_in_executor(self._loaders, here.run, self._bring, model)
        )
        self._measures.models(len(self._models), self._models.nbytes)
        return classifier

    def _bring(self, model: PredictingModel) -> Classifier:
        """Load a model in a loader's thread."""
        started = time.perf_counter()
        if isinstance(model, ImageNetModel):
            classifier = self._published(model.architecture)
        else:
            classifier = self._trained(model)
        seconds = round(time.perf_counter() - started, 3)
        log.info("model.loaded", seconds=seconds, **classifier.facts)
        return classifier

    def _published(self, architecture: str) -> Classifier:
        from models.weights import pretrained  # noqa: PLC0415 - loads torch.

        published = pretrained.load(
            architecture,
            self._settings.weights_dir,
            offline=self._settings.offline,
            timeout=self._settings.download_timeout,
        )
        return Classifier.imagenet(architecture, published.tensors)

    def _trained(self, model: ArtefactModel) -> Classifier:
        try:
            return self._read(model)
        except IntegrityError:
            # A copy may have been damaged since it was made; storage has the last word.
            self._files.forget(model)
            return self._read(model)

    def _read(self, model: ArtefactModel) -> Classifier:
        folder = self._files.bring(model)
        classifier = Classifier.from_artefact(folder, self._files.name_of(model))
        if classifier.facts["sha256"] != self._files.weights_of(model):
            raise IntegrityError("The model's card names other weights than its manifest.")
        return classifier


async def _all(jobs: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return what all of them return; where one raises, the others are given up."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _seen(classifier: Classifier, explain: Explain | None, image: OpenImage) -> Crops | View:
    """Return the network's view of an image, and where that lies if it is to be explained."""
    if explain is None:
        return classifier.crop(image)
    return explaining.view(classifier, image, overlay=explain.overlay)


def answer(classifier: Classifier, guesses: Sequence[Guess]) -> list[Answer | TopworkError]:
    """Return one answer, or what is wrong with it, for each image of a batch."""
    explain = any(guess.explain is not None for guess in guesses)
    found = classifier.answer([guess.crop for guess in guesses], explain=explain)
    answers: list[Answer | TopworkError] = []
    for image, ((row, similarity), guess) in enumerate(zip(found.rows(), guesses, strict=True)):
        try:
            result = classifier.rank(row, guess.top_k, similarity, guess.thresholds)
            heat = None
            if guess.explain is not None:
                index = guess.explain.index
                first = result["predictions"][0]["index"]
                heat = classifier.heat_map(found, image, first if index is None else index)
            answers.append((result, heat))
        except TopworkError as error:
            answers.append(error)
    return answers


class Timings:
    """When the stages of one request ended, as `time.perf_counter` counts."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.decoded = begun
        self.passes: set[tuple[float, float]] = set()

    def parts(self, now: float) -> dict[str, float]:
        """Return seconds until the last image was decoded, of its forward passes, and between."""
        decode = self.decoded - self.begun
        forward = sum(ended - began for began, ended in self.passes)
        return {
            "decode": decode,
            "queue": max(0.0, now - self.begun - decode - forward),
            "forward": forward,
        }
