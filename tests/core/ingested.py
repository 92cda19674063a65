"""What an ingestion is given, and what it leaves behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.archives import folder

GOOD = folder("cat", "dog")


@dataclass
class Outcome:
    """What a run left behind."""

    folder: Path
    error: dict[str, Any] | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    manifest: list[dict[str, Any]] = field(default_factory=list)
    report: list[dict[str, Any]] = field(default_factory=list)

    @property
    def codes(self) -> dict[str, str]:
        return {row["path"]: row["code"] for row in self.report}

    @property
    def places(self) -> dict[str, tuple[str, str]]:
        return {line["path"]: (line["split"], line["class"]) for line in self.manifest}


Ingest = Callable[..., Outcome]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prepare(
    folder: Path, data: bytes | Path, split: object, limits: object, **more: object
) -> None:
    archive = data if isinstance(data, Path) else folder.parent / f"{folder.name}.upload"
    if isinstance(data, bytes):
        archive.write_bytes(data)
    folder.mkdir(exist_ok=True)
    request = {"archive": str(archive), "split": split or {}, "limits": limits or {}, **more}
    (folder / "request.json").write_text(json.dumps(request))


def outcome(folder: Path) -> Outcome:
    result = folder / "result"
    if not result.is_dir():
        return Outcome(folder)
    return Outcome(
        folder,
        dataset=json.loads((result / "dataset.json").read_text()),
        manifest=lines_of(result / "manifest.jsonl"),
        report=lines_of(result / "report.jsonl"),
    )
