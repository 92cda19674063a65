"""Fix by which features and confidences the finished network abstains."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from models.data.sources import Features
from models.evaluation import abstention
from models.evaluation.abstention import MOST_VALUES, Abstention, Seen, spread_out
from models.evaluation.calibrate import Calibration
from models.evaluation.evaluate import FOLDS, Said, answers
from models.inference.rejection import Rejection
from models.networks.head import pooled
from models.planning.rejection import LEAST_IMAGES, TOO_FEW
from models.training.fit import Trained
from models.training.linear_head import NO_GROUP, Answers


def fit(
    trained: Trained,
    learned: Features | None,
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
        learned: Features of the images that its head learned from, if its trunk was frozen.
        outputs: What it says about held-out splits.
        unseen: Logits of the same by heads that had not seen them.
        folds: What heads said about images that trained the network's own.
        calibration: What divides the logits.
    """
    features = {split: said.features for split, said in outputs.items()}
    val, apart = features.get("val"), dict[str, Tensor]()
    found: Rejection | str
    if folds is not None and learned is not None:
        training = len(trained.fit.dataset.splits["train"])
        found, apart = _of_folds(learned, training, val, unseen, folds, calibration)
    elif val is None or len(val) < LEAST_IMAGES:
        found = TOO_FEW.format(0 if val is None else len(val), LEAST_IMAGES)
    else:
        known = _known(trained, learned, val.shape[1])
        found = abstention.fit(*known, [Seen(val, _sure(calibration, unseen["val"]))])
    return Abstention.of(found, features, apart)


def _of_folds(
    learned: Features,
    training: int,
    val: Tensor | None,
    unseen: Mapping[str, Tensor],
    folds: Answers,
    calibration: Calibration,
) -> tuple[Rejection | str, dict[str, Tensor]]:
    """Fix it by the `training` images of folds, then those of `val`.

    Validation images that the head learned from are known ones too; neither they nor what is
    nearly the same count for themselves. Those of them that are not of folds fix no threshold, as
    nobody knows what is nearly the same as they.

    Return also how like the other ones the images of the folds and of `val` are, by split.
    """
    held = 0 if val is None else len(val)
    numbers = torch.cat([folds.images[folds.images < training], training + torch.arange(held)])
    fixing = torch.isin(numbers, folds.images) | (numbers >= len(folds.groups))
    if int(fixing.sum()) < LEAST_IMAGES:
        return TOO_FEW.format(int(fixing.sum()), LEAST_IMAGES), {}
    groups = functional.pad(folds.groups, (0, training + held - len(folds.groups)), value=NO_GROUP)
    own = numbers[: len(numbers) - held]
    seen = [Seen(learned.values[own], _sure(calibration, folds.logits[: len(own)]), groups[own])]
    if val is not None:
        seen.append(Seen(val, _sure(calibration, unseen["val"]), groups[training:]))
    known = folds.groups != NO_GROUP
    found = abstention.fit(learned.values[known], learned.labels[known], seen, folds.groups[known])
    if isinstance(found, str):
        return found, {}
    similarities = torch.from_numpy(found.similarities)
    apart = {FOLDS: similarities} | ({} if val is None else {"val": similarities[len(own) :]})
    of_fixing = fixing.numpy()
    fixed = replace(
        found,
        similarities=found.similarities[of_fixing],
        confidences=found.confidences[of_fixing],
    )
    return fixed, apart


def _sure(calibration: Calibration, logits: Tensor) -> Tensor:
    return calibration.served(logits).amax(1)


def _known(trained: Trained, learned: Features | None, width: int) -> tuple[Tensor, Tensor]:
    """Return features (m, width) and labels of as many training images as are kept."""
    fit, labels = trained.fit, trained.fit.dataset.labels("train")
    if learned is not None:
        return pooled(learned.first(len(labels)).values), labels
    chosen = spread_out(labels, MOST_VALUES // width)
    samples = [fit.dataset.splits["train"][number] for number in chosen.tolist()]

    def done(_: int) -> None:
        fit.run.check_stop()
        fit.run.events.alive()

    said = answers(
        fit.dataset,
        samples,
        fit.network.classifier(),
        threads=fit.execution.threads,
        done=done,
    )
    return said.features, labels[chosen]
