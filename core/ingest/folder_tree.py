"""The tree of folders and files that the paths of an upload make (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Folder:
    """One folder; `path` ends with a slash, and is empty for the root.

    Paths are at most 512 bytes long (`archive.clean`), which bounds the depth of recursion.
    """

    path: str = ""
    files: list[str] = field(default_factory=list)
    folders: dict[str, "Folder"] = field(default_factory=dict)

    def all_files(self) -> list[str]:
        """Return the folder's own files, then those further down."""
        inner = [path for folder in self.folders.values() for path in folder.all_files()]
        return self.files + inner

    def holds_files(self) -> bool:
        """Tell whether there is a file here or further down."""
        return bool(self.files) or any(inner.holds_files() for inner in self.folders.values())

    def filled(self) -> dict[str, "Folder"]:
        """Return the folders directly in this one that hold files."""
        return {name: inner for name, inner in self.folders.items() if inner.holds_files()}

    def only(self) -> "Folder | None":
        """Return the one folder in which everything lies that is here in folders."""
        filled = list(self.filled().values())
        return filled[0] if len(filled) == 1 else None

    def leaves(self) -> Iterable["Folder"]:
        """Yield the folders without folders, this one where it has none."""
        if not self.folders:
            yield self
        for inner in self.folders.values():
            yield from inner.leaves()

    def find(self, path: str) -> "Folder | None":
        """Return the folder at a path below this one; `.` is this one."""
        found: Folder | None = self
        for name in path.split("/"):
            found = found if name in {"", "."} or found is None else found.folders.get(name)
        return found

    def take(self, folder: "Folder") -> None:
        """Take a folder from below this one out of the tree, with all that is in it."""
        *above, name = folder.path.removeprefix(self.path).rstrip("/").split("/")
        parent = self.find("/".join(above))
        if parent is not None:
            parent.folders.pop(name, None)


def folder_tree(files: Iterable[str], folders: Iterable[str] = ()) -> Folder:
    """Return the root of a tree of safe paths (`archive.clean`); `folders` may be empty ones."""
    root = Folder()
    for path in folders:
        _descend(root, path.split("/"))
    for path in files:
        *parents, _ = path.split("/")
        _descend(root, parents).files.append(path)
    return root


def _descend(folder: Folder, segments: Iterable[str]) -> Folder:
    for segment in segments:
        if segment not in folder.folders:
            folder.folders[segment] = Folder(f"{folder.path}{segment}/")
        folder = folder.folders[segment]
    return folder
