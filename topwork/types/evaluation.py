"""The evaluation of a model version; `docs/artefact.md` says how it is computed.

A version that an earlier trainer made lacks what was not measured then.
"""

from typing import Literal

from pydantic import Field

from topwork.kinds import AbstainReason, Decision
from topwork.types.values import Answer, Open


class Interval(Answer):
    """Where a score lies."""

    low: float = Field(description="Lower end.")
    high: float = Field(description="Upper end.")


class Intervals(Answer):
    """Confidence intervals: Wilson's for the accuracy, by the bootstrap for the F1.

    Versions of earlier trainers have none where all images are right or all are wrong.
    """

    level: float | None = Field(None, description="How often such an interval holds the truth.")
    resamples: int | None = Field(None, description="How many were drawn for the F1.")
    seed: int | None = Field(None, description="By which they were drawn.")
    accuracy: Interval | None = Field(None, description="Of the accuracy.")
    macro_f1: Interval | None = Field(None, description="Of the mean F1 of the classes.")


class TopK(Answer):
    """Share of images whose class is among the first k."""

    k: int = Field(description="How many classes count.")
    accuracy: float = Field(description="The share.")


class Averages(Answer):
    """Means over the classes."""

    precision: float | None = Field(None, description="Of what was named, the share that is it.")
    recall: float | None = Field(None, description="Of what is it, the share that was named.")
    f1: float | None = Field(None, description="Harmonic mean of the two.")


class ClassScores(Averages):
    """The same for one class; null without images of it."""

    class_name: str = Field(alias="class", description="Its name.")
    support: int = Field(description="Images of it.")


class ReliabilityBin(Answer):
    """Answers of similar confidence: low <= confidence < high, the last one with 1."""

    low: float = Field(description="Lower end.")
    high: float = Field(description="Upper end.")
    images: int = Field(description="How many.")
    confidence: float | None = Field(description="Their mean confidence.")
    accuracy: float | None = Field(description="Share of them that is right.")


class Trust(Answer):
    """How far confidence is from accuracy."""

    log_loss: float = Field(description="Mean -log of the true class's probability.")
    ece: float = Field(description="Expected calibration error.")
    bins: list[ReliabilityBin] = Field(description="Reliability diagram.")


class SplitCalibration(Answer):
    """What calibration did to the confidences of a split."""

    temperature: float = Field(description="Divisor of the logits.")
    ceiling: float | None = Field(None, description="What no confidence exceeds.")
    before: Trust = Field(description="Plain softmax.")
    after: Trust = Field(description="What is served.")
    reason: str | None = Field(None, description="Why nothing was fitted.")


class Operating(Answer):
    """The surest answers alone."""

    coverage: float = Field(description="Share of all images that they are.")
    confidence: float = Field(description="The least of theirs.")
    accuracy: float = Field(description="Share of them that is right.")


class Abstention(Answer):
    """Coverage against accuracy: what is gained where not every answer is relied on."""

    reason: str | None = Field(None, description="Why every answer is accepted.")
    coverage: float = Field(description="Share of answers that is accepted.")
    coverage_interval: Interval = Field(description="Of that share.")
    accuracy: float | None = Field(description="Of accepted answers; null without any.")
    accuracy_interval: Interval | None = Field(description="Of that accuracy.")
    unknown: int = Field(description="Images that are like no known one.")
    unsure: int = Field(description="Other images whose class is unsure.")
    by_confidence: list[Operating] = Field(description="From all answers to the surest half.")


class ConfusionMatrix(Answer):
    """Images by true class (rows) and predicted class (columns)."""

    classes: list[str] = Field(description="Of the rows and of the columns.")
    matrix: list[list[int]] | None = Field(None, description="Null beyond 200 classes.")
    cells: list[tuple[int, int, int]] | None = Field(
        None, description="Row, column and count of what is not 0, beyond 200 classes."
    )


class WrongAnswer(Answer):
    """An image that was taken for something else."""

    sha256: str | None = Field(None, description="Of its file.")
    path: str = Field(description="As uploaded.")
    true: str = Field(description="Its class.")
    predicted: str = Field(description="What it was taken for.")
    confidence: float | None = Field(None, description="How surely.")
    loss: float = Field(description="-log of the true class's probability.")


class SplitEvaluation(Answer):
    """Scores of one split that did not train."""

    images: int | None = Field(None, description="How many.")
    out_of_fold: bool = Field(
        default=False,
        description="Whether the published network has seen these images, and networks of the same"
        " kind answered that had not.",
    )
    accuracy: float | None = Field(None, description="Share that is right.")
    top_k: TopK | None = Field(None, description="Share that is right among the first k.")
    macro: Averages | None = Field(None, description="Each class counts the same.")
    weighted: Averages | None = Field(None, description="Each image counts the same.")
    log_loss: float | None = Field(None, description="Mean -log of the true class's probability.")
    ece: float | None = Field(None, description="Expected calibration error.")
    calibration: SplitCalibration | None = Field(None, description="Before and after.")
    per_class: list[ClassScores] = Field([], description="In the order of the classes.")
    confusion: ConfusionMatrix | None = Field(None, description="What is taken for what.")
    intervals: Intervals | None = Field(None, description="How far scores may be from the truth.")
    abstention: Abstention | None = Field(None, description="Coverage against accuracy.")
    errors: list[WrongAnswer] | None = Field(None, description="The 50 with the greatest loss.")


class Evaluation(Answer):
    """Everything that was measured, by split."""

    object: Literal["evaluation"] = Field("evaluation", description="Always `evaluation`.")
    splits: dict[str, SplitEvaluation] = Field(
        description="`val` and `test`, if it has images; `folds`, images that trained or validated,"
        " as heads answered that had not seen them, where there were such heads; nothing for a"
        " version that came without an evaluation."
    )


class Confusion(Answer):
    """The confusion matrices, by split."""

    object: Literal["confusion"] = Field("confusion", description="Always `confusion`.")
    splits: dict[str, ConfusionMatrix] = Field(description="`val` and `test`.")


class ModelCalibration(Answer):
    """The temperature and the images that chose it."""

    temperature: float = Field(description="Divisor of the logits.")
    ceiling: float | None = Field(None, description="What no confidence exceeds; null for none.")
    ece_before: float = Field(description="Calibration error of the plain softmax.")
    ece_after: float = Field(description="Of what is served.")
    images: int = Field(
        description="Images that it was fitted on; none trained what answered for it."
    )


class Calibration(Answer):
    """How far confidences can be relied on."""

    object: Literal["calibration"] = Field("calibration", description="Always `calibration`.")
    calibration: ModelCalibration | None = Field(description="Null where nothing was fitted.")
    splits: dict[str, SplitCalibration | None] = Field(description="Null where unmeasured.")


class Errors(Answer):
    """The wrong answers with the greatest loss, by split."""

    object: Literal["errors"] = Field("errors", description="Always `errors`.")
    splits: dict[str, list[WrongAnswer] | None] = Field(description="Null where unmeasured.")


class EvaluatedImage(Answer):
    """What the evaluation said about one image."""

    sha256: str = Field(description="Of its file.")
    path: str = Field(description="As uploaded.")
    split: str = Field(description="`val` or `test`.")
    class_name: str = Field(alias="class", description="Its class.")
    label: str = Field(description="What it was taken for.")
    confidence: float = Field(description="How surely.")
    decision: Open[Decision] | None = Field(None, description="Whether the label is relied on.")
    reason: Open[AbstainReason] | None = Field(None, description="Why not.")
    served_label: str | None = Field(
        None,
        description="What the published network says, which may have learned from it since.",
    )
    served_confidence: float | None = Field(None, description="How surely it says so.")
    served_decision: Open[Decision] | None = Field(
        None, description="Whether the service relies on that."
    )
    served_reason: Open[AbstainReason] | None = Field(None, description="Why not.")
