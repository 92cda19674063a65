import os
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, a long name, an empty file, a link and a size that is no whole block."""
    root = tmp_path / "pets"
    for name, data in (
        ("cat/a.png", b"a" * 512),
        ("dog/" + "long" * 40 + ".png", b"b" * 1300),
        ("dog/empty.png", b""),
        ("dog/größe.png", b"c"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "outside.png").write_bytes(b"outside")
    (root / "cat/link.png").symlink_to(tmp_path / "outside.png")
    os.mkfifo(root / "cat/pipe")
    return root
