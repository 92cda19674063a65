"""Find the classes that an upload names but brings no usable image of (pure).

What a user meant follows from all paths. A class of files in a format that is not read, or of
links, is no less meant than the others, and a model without it would be wrong without a word.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from core.ingest.archive import IMAGE_SUFFIXES, Plan, Refusal
from core.ingest.layout import Reading
from core.ingest.manifest import Finding, Lost, reasons, with_reasons
from topwork.kinds import Severity

# Photographs and drawings that are not, or not everywhere, read, and films.
FOREIGN = (
    ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".jpe", ".jfif", ".mpo",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".psd", ".svg",
    ".tga", ".ico", ".ppm", ".pgm", ".pbm", ".exr", ".hdr", ".dds", ".eps", ".pcx", ".dcm", ".nii",
    ".npy", ".mp4", ".mov", ".avi", ".mkv", ".webm",
)  # fmt: skip
# What lies beside images and is about them; a folder of these is no class.
COMPANIONS = (
    ".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".csv",
    ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log", ".py",
    ".ipynb", ".js", ".css", ".sh", ".bat", ".mat", ".pt", ".pth", ".onnx", ".h5", ".pkl", ".npz",
    ".bin", ".db", ".url", ".lnk",
)  # fmt: skip
TOOL_FOLDERS = {
    "__macosx", "@eadir", "$recycle.bin", "system volume information", ".ipynb_checkpoints", ".git",
    ".svn", ".hg", ".github", ".idea", ".vscode", ".cache", ".thumbnails", ".appledouble",
    ".fseventsd", ".spotlight-v100", ".trashes", ".trash", ".venv", ".picasaoriginals", ".dvc",
}  # fmt: skip
# The paths say where a file would have gone on this machine, and nothing of a class.
NO_CLASS = {"path_traversal", "path_absolute", "path_drive", "name_nul", "no_class", "unlabelled"}
NO_CLASS |= {"no_label", "multi_label"}
# The tree of these is as sound as that of any file; the others would change how it is read.
STRAY = {*NO_CLASS, "name_not_utf8", "path_too_long", "system_file"}
STRAY |= {"special_file", "name_duplicate", "name_case_clash", "name_unicode_clash"}
UNUSABLE = "No image of the class can be used"
REFUSED = "No image of these classes can be used, so a job needs `allow_lost_classes`"


def meant_paths(planned: Plan) -> tuple[list[str], list[str], list[str]]:
    """Return the paths that tell what the user meant: files, folders, and images not used."""
    sound = [it for it in planned.refusals if it.code not in STRAY]
    images = [it.path for it in sound if _looks_like_image(it.path)]
    links = [it.path for it in sound if _is_folder_link(it)]
    return [*planned.files.values()], [*planned.folders, *links], images


def lost(reading: Reading, used: Collection[str], refusals: Iterable[Refusal]) -> Lost:
    """Return the classes without an image, and why: for each, files by code.

    Args:
        reading: How the tree was understood.
        used: Classes that have images.
        refusals: All files that are not used.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for refusal in refusals:
        name = _class_of(refusal, reading)
        if name is not None and name not in used:
            found[name][refusal.code] += 1
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def finding(classes: Lost) -> list[Finding]:
    """Return what a user should know of lost classes; nothing where there are none."""
    if not classes:
        return []
    told = {
        it: f"No image of the class can be used: {reasons(why)}." for it, why in classes.items()
    }
    message = f"{REFUSED}: {with_reasons(classes)}."
    return [Finding("class_lost", Severity.ERROR, message, tuple(classes), told)]


def _class_of(refusal: Refusal, reading: Reading) -> str | None:
    """Return the class in whose place a refused file lies, if it could have been an image."""
    if refusal.code in NO_CLASS or refusal.path.lower().endswith(COMPANIONS):
        return None
    name = reading.class_of(f"{refusal.path}/" if _is_folder_link(refusal) else refusal.path)
    if name is None or TOOL_FOLDERS.intersection(name.casefold().split("/")):
        return None
    hidden_file = refusal.path.rpartition("/")[2].startswith(".")
    if refusal.code == "system_file" and (hidden_file or not _looks_like_image(refusal.path)):
        return None
    return name


def _looks_like_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES + FOREIGN)


def _is_folder_link(refusal: Refusal) -> bool:
    return refusal.code == "link" and not _looks_like_image(refusal.path)
