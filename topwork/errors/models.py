"""Errors of networks, their weights and published models."""

from topwork.errors.error import TopworkError
from topwork.errors.requests import NotFound


class ModelNotFound(NotFound):
    """There is no such model."""

    code = "model_not_found"


class NameTaken(TopworkError):
    """The name belongs to somebody else."""

    status, code = 409, "name_taken"
    hint = "Choose another name for the model."


class ModelInUse(TopworkError):
    """An alias points to it."""

    status, code = 409, "model_in_use"
    hint = "Remove or move its aliases first: DELETE /models/{name}/aliases/{alias}."


class GateFailed(TopworkError):
    """The version has not shown what the gate asks for; the alias is where it was."""

    status, code = 409, "gate_failed"
    hint = "GET /models/{name}/compare shows the classes and images; a gate may allow more."


class NotComparable(TopworkError):
    """The two versions have no held-out image in common."""

    status, code = 409, "not_comparable"
    hint = "Train both on versions of one dataset whose held-out images are the same."


class NotJudged(TopworkError):
    """No model has judged the images of this dataset."""

    status, code = 409, "not_judged"
    hint = "Train a model on this version: its evaluation looks for suspects."


class ArchitectureNotFound(NotFound):
    """There is no such architecture."""

    code = "architecture_not_found"


class ArchitectureUnknown(TopworkError):
    """There is no architecture of this name."""

    status, code = 422, "architecture_unknown"


class WeightsUnavailable(TopworkError):
    """Pretrained weights are not on this machine and could not be downloaded."""

    status, code = 422, "weights_unavailable_offline"


class WeightsMismatch(TopworkError):
    """The weights do not belong to this architecture."""

    status, code = 422, "weights_mismatch"


class BundleInvalid(TopworkError):
    """The file is no model that can be taken in."""

    status, code = 422, "bundle_invalid"
    hint = "Send what an export as `bundle` gives, or a zip of card.json and weights.safetensors."


class ExportNotFound(NotFound):
    """The version was not exported in this format."""

    code = "export_not_found"
    hint = "POST to the exports of the version, and wait for the job."


class ExportParityFailed(TopworkError):
    """The exported file does not answer as the service does, so it is not published."""

    status, code = 422, "export_parity_failed"
    hint = "Take another form, or the files of the version; this one would mislead whoever asks it."


class RejectionUnavailable(TopworkError):
    """The model has too few known images to promise such a share of accepted answers."""

    status, code = 422, "rejection_unavailable"
    hint = "Leave `reject` out, ask for a smaller share, or train on more images."


class HeatmapUnsupported(TopworkError):
    """The model cannot say which part of an image spoke for a class."""

    status, code = 422, "heatmap_unsupported"
    hint = "Leave `explain` out, or take a network whose `heatmap` is true: GET /architectures."
