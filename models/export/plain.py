"""A model as the plain bundle: its card and its weights, for another Topwork or for torch alone."""

import tempfile
from pathlib import Path

from PIL import Image

from models.export.forms import Answer, Answers, Exported
from models.inference import artefact
from models.inference.classifier import Classifier
from models.weights import bundle

NAME = "model.zip"


def write(folder: Path, model: Exported) -> Path:
    """Write `model.zip` and return its path; its card names the hash of the weights in it."""
    path = folder / NAME
    bundle.pack(path, artefact.text_of(model.card), model.files / artefact.WEIGHTS)
    return path


def answers(path: Path) -> Answers:
    """Return what asks the model in the file, all of which is verified and read into memory."""
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        bundle.unpack(path, Path(place))
        classifier = Classifier.from_artefact(Path(place))

    def answer(image: Image.Image) -> Answer:
        row = classifier.forward([classifier.preprocess.uint8(image)])[0]
        return Answer(classifier.labels[int(row.argmax())].name, row, judged=False)

    return answer
