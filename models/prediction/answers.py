"""Ask a classifier about the images of a batch: decoded in threads, ahead of the forward passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.imaging.decode import ImageLimits
from models.compute.memory import within
from models.data.shards import ahead
from models.inference.classifier import Answered, Classifier, Crops
from models.inference.rejection import Thresholds
from models.prediction.images import BatchImage
from models.prediction.parts import Row
from topwork.errors import ImageTooLarge, ImageUndecodable
from topwork.kinds import RejectMode, ResultStatus

BATCH = 32
Known = Mapping[str, int]
Error = dict[str, Any]


def answers(
    classifier: Classifier,
    images: Sequence[BatchImage],
    read: Callable[[BatchImage], bytes],
    *,
    known: Known,
    limits: ImageLimits,
    top_k: int,
    threads: int,
    reject: RejectMode | float = RejectMode.AUTO,
) -> Iterator[list[Row]]:
    """Yield the answers about up to 32 images at a time, in order, by the path of `POST /predict`.

    Args:
        classifier: Who is asked.
        images: About what.
        read: Returns the bytes of one.
        known: Output of the classes that the network tells apart.
        limits: Above which an image is refused, as a prediction would.
        top_k: Most classes named for an image.
        threads: That decode.
        reject: Which answers are not relied on.

    Raises:
        RejectionUnavailable: The model cannot promise the share that is asked for.
        IntegrityError: Bytes are not as recorded, or the network gave no finite answer.
        OutOfMemory: There is none even for one image.
    """

    def view(image: BatchImage) -> Crops | Error:
        if image.error is not None:
            return image.error
        try:
            return classifier.decode(read(image), limits)
        except (ImageUndecodable, ImageTooLarge) as error:
            return {"code": error.code, "message": error.message, "hint": error.hint}

    thresholds = classifier.thresholds(reject)
    done = 0
    for views in ahead(images, view, batch=BATCH, threads=threads):
        part = images[done : done + len(views)]
        done += len(views)
        pixels = [one for one in views if not isinstance(one, dict)]
        served = iter(_served(classifier, pixels, top_k, thresholds) if pixels else ())
        yield [
            _answer(image, *next(served), known)
            if not isinstance(one, dict)
            else _facts(image) | {"status": ResultStatus.ERROR, "error": one}
            for image, one in zip(part, views, strict=True)
        ]


def _served(
    classifier: Classifier, pixels: list[Crops], top_k: int, thresholds: Thresholds | None
) -> Iterator[tuple[Row, NDArray[np.float64]]]:
    """Yield the answer and the probabilities of each image."""

    def ask(some: torch.Tensor) -> torch.Tensor:
        answered = classifier.answer(some.numpy())
        more = () if answered.similarities is None else (answered.similarities,)
        return torch.from_numpy(np.column_stack([answered.probabilities, *more]))

    columns: NDArray[np.float64] = within(ask, torch.from_numpy(np.stack(pixels))).numpy()
    rows, likeness = np.split(columns, [len(classifier.labels)], axis=1)
    known = likeness[:, 0] if likeness.shape[1] else None
    for row, similarity in Answered(rows, known).rows():
        yield classifier.rank(row, top_k, similarity, thresholds), row


def _answer(image: BatchImage, answer: Row, row: NDArray[np.float64], known: Known) -> Row:
    found = known.get(image.class_name or "")
    return _facts(image) | {
        "status": ResultStatus.OK,
        **answer,
        "class_index": found,
        "class_confidence": None if found is None else float(row[found]),
    }


def _facts(image: BatchImage) -> Row:
    return {
        "index": image.number,
        "path": image.path,
        "sha256": image.sha256 or None,
        "split": image.split,
        "class": image.class_name,
    }
