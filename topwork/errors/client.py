"""Errors of the client itself; all others come from the service under their own codes."""

from topwork.errors.error import TopworkError


class Unreachable(TopworkError):
    """The service does not answer."""

    status, code = 503, "unreachable"
    hint = "Start it, or name another one with --url or TOPWORK_URL."


class JobFailed(TopworkError):
    """The job did not succeed."""

    status, code = 422, "job_failed"


class FolderUnusable(TopworkError):
    """There is nothing to send in this folder."""

    status, code = 422, "folder_unusable"
    hint = "Name a folder that holds one folder of images per class, or a .zip or .tar of one."


class FolderChanged(TopworkError):
    """A file changed while it was being sent."""

    status, code = 409, "folder_changed"
    hint = "Wait until nothing writes into the folder, then try again."


class ImageUnusable(TopworkError):
    """This is no image that could be sent."""

    status, code = 422, "image_unusable"
    hint = (
        "Pass a path, bytes, a file opened with mode 'rb', a Pillow image, a uint8 array of"
        " height x width (x 3 or 4), or several of these."
    )
