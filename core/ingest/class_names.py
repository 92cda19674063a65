"""Which class a path means, and which names a class can have (pure)."""

import re
import unicodedata
from collections.abc import Collection

from topwork.errors import DatasetInvalid, LayoutAmbiguous
from topwork.kinds import ClassSource

MAX_CLASSES = 5000
MAX_CLASS_NAME = 100
# `american_bulldog_203`, `cat.0`, `dog (3)`; or `cat17`, where only a number is no name.
NUMBERED = re.compile(r"(.*[^\W_])[\W_]+\d+\W*|(.*[^\W\d_])\d+\W*", re.DOTALL)


def class_of(source: ClassSource, inside: str) -> str | None:
    """Return the class of a file, by its path below the folder that holds the classes."""
    *folders, file = inside.split("/")
    if source is ClassSource.FILENAME:
        found = NUMBERED.fullmatch(file.rpartition(".")[0])
        return (found[1] or found[2]) if found else None
    if not folders:
        return None
    if source is ClassSource.PATH:
        return "/".join(folders)
    return folders[0] if source is ClassSource.OUTER else folders[-1]


def class_name_problem(name: str) -> str | None:
    """Return why a class cannot have this name, or None when it can."""
    if not name.strip():
        return "A class name is empty."
    if len(name) > MAX_CLASS_NAME:
        return f"The class name {name[:20]!r}... is over {MAX_CLASS_NAME} characters long."
    if not name.isprintable():
        return f"The class name {name!a} contains characters that cannot be shown."
    if not unicodedata.is_normalized("NFC", name):
        return f"The class name {name!a} is not in Unicode's composed form (NFC)."
    return None


def check_classes(names: Collection[str]) -> None:
    """Refuse more classes than `MAX_CLASSES`, and names that could be taken for one another.

    Raises:
        DatasetInvalid: There are too many.
        LayoutAmbiguous: Two names differ only in case or in spaces around them.
    """
    if len(names) > MAX_CLASSES:
        raise DatasetInvalid(f"There are {len(names)} class folders; the limit is {MAX_CLASSES}.")
    seen: dict[str, str] = {}
    for name in sorted(names):
        twin = seen.setdefault(name.strip().casefold(), name)
        if twin != name:
            raise LayoutAmbiguous(
                f"The folders can be read in two ways: as the two classes {twin!r} and {name!r};"
                " or as one class whose folder name is spelled in two ways.",
                hint="Use one spelling, or clearly different names.",
            )
