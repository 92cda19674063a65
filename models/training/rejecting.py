"""Fix by which features and confidences the finished network abstains."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.compute.memory import within
from models.data.dataset import ACCEPTED
from models.data.features import Standardise
from models.evaluation import abstention
from models.evaluation.abstention import MOST_VALUES, Abstention, Seen, spread_out
from models.evaluation.calibrate import Calibration
from models.evaluation.evaluate import BATCH, FOLDS, Said
from models.inference.rejection import Rejection
from models.networks.head import pooled
from models.planning.rejection import LEAST_IMAGES, TOO_FEW
from models.training import head_stage
from models.training.fit import Trained
from models.training.folds import near_duplicates
from models.training.linear_head import Answers

NO_GROUP = -1  # Of an image that is none of the known ones.


def fit(
    trained: Trained,
    outputs: Mapping[str, Said],
    unseen: Mapping[str, Tensor],
    folds: Answers | None,
    calibration: Calibration,
) -> Abstention:
    """Return by what the network abstains, and how like known images the held-out ones are.

    The thresholds follow from validation images and, of a linear head on a frozen trunk, from the
    images that it learned from, as heads answered that had not seen them. Features of a trunk that
    was trained say of its own training images that they are well known; then the validation images
    alone decide.

    Args:
        trained: The network, and the images.
        outputs: What it says about held-out splits.
        unseen: Logits of the same by heads that had not seen them.
        folds: What heads said about images that trained the network's own.
        calibration: What divides the logits.
    """
    features = {split: said.features for split, said in outputs.items()}
    val = features.get("val")
    found: Rejection | str
    if folds is not None:
        found = _of_folds(trained, val, unseen, folds, calibration)
    elif val is None or len(val) < LEAST_IMAGES:
        images = 0 if val is None else len(val)
        found = TOO_FEW.format(images, LEAST_IMAGES)
    else:
        confidences = calibration.served(unseen["val"]).amax(1)
        found = abstention.fit(*_known(trained, val.shape[1]), [Seen(val, confidences)])
    if isinstance(found, str):
        return Abstention(reason=found)
    similarities = torch.from_numpy(found.similarities)
    apart = {FOLDS: similarities} if folds is not None else {}
    if val is not None:
        apart["val"] = similarities[len(similarities) - len(val) :]
    return Abstention.of(found, features, apart)


def _of_folds(
    trained: Trained,
    val: Tensor | None,
    unseen: Mapping[str, Tensor],
    folds: Answers,
    calibration: Calibration,
) -> Rejection | str:
    """Fix it by the images of folds, then those of `val`, whose logits are those of folds if any.

    Validation images that the head learned from are known ones too; neither they nor what is
    nearly the same count for themselves.
    """
    every = head_stage.known(trained)
    if every is None:
        raise TypeError  # Folds are of a head on a frozen trunk.
    values, training = every.values[folds.images], len(trained.fit.dataset.splits["train"])
    groups = near_duplicates(Standardise.together(every.values)(values))
    own = folds.images < training
    confidences = calibration.served(folds.logits).amax(1)
    seen = [Seen(values[own], confidences[own], groups[own])]
    if val is not None:
        numbers = torch.full((len(val),), NO_GROUP)
        numbers[folds.images[~own] - training] = groups[~own]
        seen.append(Seen(val, calibration.served(unseen["val"]).amax(1), numbers))
    return abstention.fit(values, every.labels[folds.images], seen, groups)


def _known(trained: Trained, width: int) -> tuple[Tensor, Tensor]:
    """Return features (m, width) and labels of as many training images as are kept."""
    fit, labels = trained.fit, trained.fit.dataset.labels("train")
    whole = head_stage.known(trained)
    if whole is not None:
        return pooled(whole.first(len(labels)).values), labels
    chosen = spread_out(labels, MOST_VALUES // width)
    samples = [fit.dataset.splits["train"][number] for number in chosen.tolist()]
    classifier, features = fit.network.classifier(), []

    def seen_by(crops: Tensor) -> Tensor:
        return torch.from_numpy(classifier.outputs(crops.numpy()).features)

    for crops in fit.dataset.stream(
        samples,
        lambda data: classifier.decode(data, ACCEPTED),
        batch=BATCH,
        threads=fit.execution.threads,
    ):
        fit.run.check_stop()
        fit.run.events.alive()
        features.append(within(seen_by, crops))
    return torch.cat(features), labels[chosen]
