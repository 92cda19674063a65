"""Errors of images, archives and uploads."""

from topwork.errors.error import TopworkError
from topwork.errors.requests import NotFound


class ArchiveUnsafe(TopworkError):
    """The archive contains entries that could harm this machine."""

    status, code = 400, "archive_unsafe"


class ArchiveUnreadable(TopworkError):
    """The upload is not a readable zip or tar archive."""

    status, code = 400, "archive_unreadable"
    hint = "Send a .zip, .tar or .tar.gz of one folder per class."


class ArchiveTooLarge(TopworkError):
    """The archive is larger than this service accepts."""

    status, code = 413, "archive_too_large"
    hint = "Send fewer or smaller images, or raise a limit: docs/settings.md lists them."


class LayoutAmbiguous(TopworkError):
    """The folder tree can be read in two ways."""

    status, code = 422, "layout_ambiguous"


class LayoutMismatch(TopworkError):
    """The field `layout` does not fit the folders of the upload."""

    status, code = 422, "layout_mismatch"


class NameEncodingUnknown(TopworkError):
    """The archive does not say in which encoding its names are, and they can be read in many."""

    status, code = 422, "name_encoding_unknown"


class TooFewClasses(TopworkError):
    """A classifier needs images of at least two classes."""

    status, code = 422, "too_few_classes"
    hint = "Put the images of each class into a folder named after the class."


class ClassesLost(TopworkError):
    """The upload names classes of which no image can be used."""

    status, code = 422, "classes_lost"
    hint = "Repair their images and send all again, or train without them: `allow_lost_classes`."


class DatasetInvalid(TopworkError):
    """No usable images were found."""

    status, code = 422, "dataset_invalid"
    hint = "Give each class a folder with its images: JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF."


class DatasetNotFound(NotFound):
    """There is no such dataset."""

    code = "dataset_not_found"


class DatasetInUse(TopworkError):
    """A job or a model still refers to this dataset."""

    status, code = 409, "dataset_in_use"


class DatasetNotReady(TopworkError):
    """The dataset has not finished ingesting."""

    status, code = 409, "dataset_not_ready"


class ImageUndecodable(TopworkError):
    """The file is not an image that can be decoded."""

    status, code = 422, "image_undecodable"
    hint = "Send a complete JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file."


class ImageTooLarge(TopworkError):
    """The image has more pixels than this service accepts."""

    status, code = 422, "image_too_large"


class UploadNotFound(NotFound):
    """There is no such upload, or it was used or has expired."""

    code = "upload_not_found"


class UploadOffsetMismatch(TopworkError):
    """The upload has another offset than the request says."""

    status, code = 409, "upload_offset_mismatch"
    hint = "Ask for the offset with HEAD and go on from there."


class UploadIncomplete(TopworkError):
    """The upload has not arrived completely."""

    status, code = 409, "upload_incomplete"
    hint = "Send the rest with PATCH; HEAD says how much has arrived."


class UploadLocked(TopworkError):
    """Another request is writing to this upload."""

    status, code = 423, "upload_locked"
    hint = "Try again in a moment: the other request may be one that has lost its connection."


class ChecksumMismatch(TopworkError):
    """What arrived does not have the checksum that was announced; it was not kept."""

    status, code = 460, "checksum_mismatch"
    hint = "Send the piece again."


class TooManyUploads(TopworkError):
    """Too many uploads are open."""

    status, code = 429, "too_many_uploads"
    hint = "Use or delete those listed at GET /uploads."
