"""Write what of the client follows from its other files: `python .ci/client.py`, by `make format`.

`topwork/client/synchronous` is `asynchronous` without the waiting; `options.py` names the fields of
`POST /finetune` for editors and type checkers.
"""

import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from topwork.types.datasets import UploadReading
from topwork.types.finetune import FinetuneRequest

ROOT = Path(__file__).resolve().parents[1]
CLIENT = Path("topwork/client")
NOTE = "# Written by .ci/client.py, a part of `make format`, from {source}.\n"
# In their order: a thread's work is a plain call, a pause a pause of the thread.
WITHOUT_WAITING = (
    (r"await asyncio\.to_thread\((\w+)(?:, )?", r"\1("),
    (r"^import asyncio\n", ""),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\.a(read|close|iter_lines|iter_bytes)\(", r".\1("),
    (r"\basynchronous\b", "synchronous"),
)
OPTIONS = '''"""Fields of `POST /finetune` and `POST /datasets` as keyword arguments."""

from collections.abc import Mapping
from typing import Literal, Required, TypedDict

from topwork.kinds import ClassSource, GroupBy, NameEncoding, Priority
'''
NOT_OPTIONS = ("dataset", "upload")  # The client has arguments of its own for them.


def pages() -> dict[str, str]:
    """Return the generated files: path below the root, and text."""
    sources = sorted((ROOT / CLIENT / "asynchronous").glob("[!_]*.py"))
    found = {str(CLIENT / "synchronous" / path.name): _twin(path) for path in sources}
    options, note = CLIENT / "options.py", NOTE.format(source="topwork.types.finetune")
    answers = _typed_dicts(UploadReading, "UploadReadingOptions")
    config = _typed_dicts(FinetuneRequest, "FinetuneOptions", UploadReading)
    text = note + OPTIONS + "".join([*answers, *config])
    return found | {str(options): _formatted(text, options)}


def _twin(path: Path) -> str:
    text = path.read_text()
    for pattern, replacement in WITHOUT_WAITING:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    note = NOTE.format(source=f"../asynchronous/{path.name}")
    return _formatted(note + text, CLIENT / "synchronous" / path.name)


def _formatted(text: str, path: Path) -> str:
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (("check", "--fix-only", "--quiet", "--select", "I,F401"), ("format",)):
        done = subprocess.run(
            (ruff, *command, "--stdin-filename", str(path), "-"),
            input=text, capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        text = done.stdout
    return text


def _typed_dicts(
    model: type[BaseModel], name: str, base: type[BaseModel] | None = None
) -> Iterator[str]:
    """Yield a class for the fields of a model, behind those of the objects in it.

    Fields of a base are left to the class that was made for it.
    """
    lines = []
    inherited = base.model_fields if base else {}
    for field, about in model.model_fields.items():
        if field in NOT_OPTIONS or field in inherited:
            continue
        for part in _objects(about.annotation):
            yield from _typed_dicts(part, f"{part.__name__}Options")
        kind = _named(about.annotation)
        lines.append(f"    {field}: {f'Required[{kind}]' if about.is_required() else kind}\n")
    words = (model.__doc__ or "").partition("\n")[0]
    bases = f"{base.__name__}Options" if base else "TypedDict"
    yield f'\n\nclass {name}({bases}, total=False):\n    """{words}"""\n\n{"".join(lines)}'


def _objects(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _objects(part)


def _named(annotation: Any) -> str:
    """Return a type as it is written, without the limits that only the service checks."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        name = _named(parts[0])
    elif origin in (typing.Union, types.UnionType):
        name = " | ".join(map(_named, parts)).replace("] | Literal[", ", ")
    elif origin is Literal:
        name = f"Literal[{', '.join(map(repr, parts))}]"
    elif origin is dict:
        name = f"Mapping[{', '.join(map(_named, parts))}]"
    elif origin is list:
        name = f"list[{_named(parts[0])}]"
    elif annotation is types.NoneType:
        name = "None"
    elif issubclass(annotation, StrEnum):
        name = f"{annotation.__name__} | Literal[{', '.join(map(repr, map(str, annotation)))}]"
    else:
        name = annotation.__name__ + ("Options" if issubclass(annotation, BaseModel) else "")
    return name


if __name__ == "__main__":
    for page, text in pages().items():
        (ROOT / page).write_text(text)
