"""Unexpected exceptions as a record: type and place, to recognise the same one again.

The process that it ended writes it into RUN_DIR, or meets it in the worker itself; the worker
compares it with the one of the attempt before. Messages hold numbers, addresses and names that
differ from one attempt to the next, so only the type and the place count.
"""

import errno
import hashlib
import json
import sysconfig
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from core.system import command_names
from core.system.atomic_files import write_atomically
from topwork.errors import TopworkError

FILE = "exception.json"
MOST_CHARACTERS = 200  # Of a message.
MOST_BYTES = 64 * 1024
ROOT = Path(__file__).parents[2]
REFUSED = (
    "The operating system refused this: look at the disk, the permissions and the limits of the"
    " machine that ran the job, then retry it."
)
DEFECT = (
    "This is a defect of Topwork: please report it together with the job's log, which {}."
    " Retry the job with a later version."
)
OF_THE_MACHINE = {
    errno.EACCES,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENODEV,
    errno.ENOLCK,
    errno.ENOMEM,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
LIBRARIES = tuple(
    f"{Path(sysconfig.get_path(name))}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@dataclass(frozen=True)
class Fault:
    """Type, place and message of an exception, and the digest by which it is known again.

    `refused` tells whether the machine refused something, which no code can mend: rights, limits, a
    broken disk. That a file is missing is more often a mistake of ours.
    """

    exception: str
    place: str
    message: str
    refused: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Describe an exception: its place is the innermost line that is no library's."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith((*LIBRARIES, "<frozen"))]
        place = "an unknown place"
        if found := own or frames:
            file = Path(found[-1].filename)
            name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name
            place = f"{name}, line {found[-1].lineno}, {found[-1].name}"
        refused = isinstance(error, OSError) and error.errno in OF_THE_MACHINE
        return cls(type(error).__qualname__, place, _one_line(str(error)), refused)

    @property
    def digest(self) -> str:
        """Return what two attempts that broke off in the same way have in common."""
        return hashlib.sha256(f"{self.exception} {self.place}".encode()).hexdigest()

    def __str__(self) -> str:
        """Say it in words."""
        said = f": {self.message}" if self.message else ""
        return f"{self.exception} in {self.place}{said}"


class UnexpectedException(TopworkError):
    """The job met the same unexpected exception twice."""

    status, code = 422, "unexpected_exception"
    hint = DEFECT.format("GET /jobs/JOB/logs shows")

    @classmethod
    def of(cls, fault: Fault) -> Self:
        """Name the exception and its place."""
        logs = command_names.command("jobs", "logs", "JOB")
        hint = REFUSED if fault.refused else DEFECT.format(f"GET /jobs/JOB/logs or {logs} shows")
        return cls(f"The job ended twice with {fault}.", hint=hint)


def record(folder: Path, error: BaseException) -> None:
    """Leave the evidence in RUN_DIR; of several processes the first one's stays."""
    if not (folder / FILE).exists():
        write_atomically(folder / FILE, json.dumps(asdict(Fault.of(error))).encode())


def recorded(folder: Path) -> Fault | None:
    """Return the evidence that a process left; None without any that can be read."""
    try:
        with (folder / FILE).open("rb") as file:
            said = json.loads(file.read(MOST_BYTES))
        exception, place, message = (
            _one_line(said[name]) for name in ("exception", "place", "message")
        )
        return Fault(exception, place, message, said["refused"] is True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _one_line(text: str) -> str:
    line = text.strip().partition("\n")[0][:MOST_CHARACTERS]
    return "".join(letter if letter.isprintable() else " " for letter in line)
