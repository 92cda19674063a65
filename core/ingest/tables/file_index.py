"""Find the image of an upload that a text in a table means (pure)."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/?|[a-z]:", re.IGNORECASE)
# Label Studio puts a few characters of its own before the names of uploaded files, and hands on
# folders of its machine as `/data/local-files/?d=path`.
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)
LOCAL_FILES = "?d="
MOST_ALIKE = 1000  # Files with the same end; of more than these a text means none.
LAST = "\U0010ffff"


class FileIndex:
    """The images of an upload by their names, with and without suffix.

    A table may name a file by its path in the upload, from where the table lies, by a path of
    another machine or a URL, or by its name alone. What counts is how many of the last parts agree.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = set(paths)
        self._by_name = _Ends((_key(path).split("/"), path) for path in self.paths)
        self._by_stem = _Ends((_stemmed(_key(path).split("/")), path) for path in self.paths)
        self._folders = {it for path in self.paths for it in _key(path).split("/")[:-1]}

    def find(self, text: str, near: str = "", prefer: Iterable[str] = ()) -> str | None:
        """Return the one image that a text can mean; None where there is none, or several.

        Args:
            text: A path, a name or a URL.
            near: Folder of the table with its slash, or "".
            prefer: Folders, as prefixes of paths, in which the table's images are first looked for.
        """
        parts = _segments(text)
        path = "/".join(parts)
        for whole in (near + path, path):
            if whole in self.paths:
                return whole
        if not parts:
            return None
        found = self._ending_like([_key(it) for it in parts])
        for prefix in (*prefer, near):
            inside = [it for it in found if it.startswith(prefix)]
            found = inside or found
        return found[0] if len(found) == 1 else None

    def _ending_like(self, parts: Sequence[str]) -> Sequence[str]:
        """Return the files of which the most last parts are those given, the name among them."""
        *folders, name = parts
        agreed, found = self._by_name.longest(parts)
        if not agreed:
            agreed, found = self._by_stem.longest(parts)
        if not agreed and (uploaded := UPLOADED.fullmatch(name)):
            agreed, found = self._by_name.longest([*folders, uploaded[1]])
        # A folder that the upload has, and in which the file is not, means another file.
        contrary = agreed == 1 and bool(folders) and folders[-1] in self._folders
        return [] if contrary else found


class _Ends:
    """Paths in the order of their parts from the last to the first, so that like ends are together.

    Args:
        items: The parts of each path, and what it is called.
    """

    def __init__(self, items: Iterable[tuple[Sequence[str], str]]) -> None:
        listed = list(items)
        self._deepest = max((len(parts) for parts, _ in listed), default=0)
        ordered = sorted((_backwards(parts), path) for parts, path in listed)
        self._keys = [key for key, _ in ordered]
        self._paths = [path for _, path in ordered]

    def longest(self, parts: Sequence[str]) -> tuple[int, Sequence[str]]:
        """Return how many of the last parts any path ends with, and the paths that do."""
        for agreed in range(min(len(parts), self._deepest), 0, -1):
            key = _backwards(parts[-agreed:])
            start = bisect_left(self._keys, key)
            if start < len(self._keys) and self._keys[start].startswith(key):
                stop = bisect_left(self._keys, key + LAST)
                return agreed, self._paths[start:stop] if stop - start <= MOST_ALIKE else []
        return 0, []


def _backwards(parts: Sequence[str]) -> str:
    return "".join(f"{part}/" for part in reversed(parts))


def _stemmed(parts: list[str]) -> list[str]:
    return [*parts[:-1], parts[-1].rpartition(".")[0] or parts[-1]]


def _segments(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text.strip()).replace("\\", "/")
    if LOCAL_FILES in text:
        text = unquote(text.partition(LOCAL_FILES)[2])
    elif match := SCHEME.match(text):
        text = unquote(text[match.end() :].partition("?")[0])
    return [part for part in text.split("/") if part not in {"", ".", ".."}]


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())
