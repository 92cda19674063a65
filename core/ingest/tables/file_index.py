"""Find the image of an upload that a text in a table means (pure)."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import unquote

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/?|[a-z]:", re.IGNORECASE)
# Label Studio puts a few characters of its own before the names of uploaded files, and hands on
# folders of its machine as `/data/local-files/?d=path`.
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)
LOCAL_FILES = "?d="


class FileIndex:
    """The images of an upload by their names, with and without suffix.

    A table may name a file by its path in the upload, from where the table lies, by a path of
    another machine or a URL, or by its name alone. What counts is how many of the last parts agree.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = set(paths)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._folders: set[str] = set()
        for path in self.paths:
            *folders, name = _key(path).split("/")
            self._by_name[name].append(path)
            self._by_stem[name.rpartition(".")[0] or name].append(path)
            self._folders.update(folders)

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
        *folders, name = parts
        found = self._named(_key(name), [_key(it) for it in folders])
        for prefix in (*prefer, near):
            inside = [it for it in found if it.startswith(prefix)]
            found = inside or found
        return found[0] if len(found) == 1 else None

    def _named(self, name: str, folders: list[str]) -> list[str]:
        """Return the files of a name whose folders agree with the most of those given."""
        uploaded = UPLOADED.fullmatch(name)
        found = self._by_name.get(name) or self._by_stem.get(name) or []
        if not found and uploaded:
            found = self._by_name.get(uploaded[1], [])
        agreeing: dict[int, list[str]] = defaultdict(list)
        for path in found:
            theirs = _key(path).split("/")[:-1]
            agreeing[_common_end(theirs, folders)].append(path)
        if not agreeing:
            return []
        most = max(agreeing)
        # A folder that the upload has, and in which the file is not, means another file.
        contrary = not most and bool(folders) and folders[-1] in self._folders
        return [] if contrary else agreeing[most]


def _segments(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text.strip()).replace("\\", "/")
    if LOCAL_FILES in text:
        text = unquote(text.partition(LOCAL_FILES)[2])
    elif match := SCHEME.match(text):
        text = unquote(text[match.end() :].partition("?")[0])
    return [part for part in text.split("/") if part not in {"", ".", ".."}]


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


def _common_end(first: list[str], second: list[str]) -> int:
    agreed = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        agreed += 1
    return agreed
