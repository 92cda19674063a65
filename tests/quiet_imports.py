"""Import every module of Topwork and print, as JSON, what that changed: module -> names of facts.

A script of its own, since it leaves the process's state beyond repair. Everything is imported once
first, with what others import; then each fact is given a value that nobody would choose, and each
module is imported anew.
"""

import importlib
import json
import locale
import logging
import os
import pkgutil
import random
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("topwork", "app", "core", "models", "worker")
SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1}
PIXELS = 12_345


def ours() -> Iterator[str]:
    """Yield all our modules but the scripts of migrations, which Alembic loads."""
    for package in PACKAGES:
        yield package
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if ".migrations" not in found.name:
                yield found.name


def nobodys(*_: object) -> None:
    """Stand for a handler that nobody else sets."""


def facts() -> dict[str, Any]:
    """Return what a module must leave alone."""
    import torch  # noqa: PLC0415 - after our own modules have decided how it is imported first.
    from PIL import Image, ImageFile  # noqa: PLC0415 - as above.

    root, umask = logging.getLogger(), os.umask(0)
    os.umask(umask)
    return {
        "PIL.Image.MAX_IMAGE_PIXELS": Image.MAX_IMAGE_PIXELS,
        "PIL.ImageFile.LOAD_TRUNCATED_IMAGES": ImageFile.LOAD_TRUNCATED_IMAGES,
        "warnings.filters": list(warnings.filters),
        "warnings.showwarning": warnings.showwarning,
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "umask": umask,
        "sys.path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "logging": (root.level, list(root.handlers)),
        "sockets": socket.getdefaulttimeout(),
        "random": hash(random.getstate()),
        "torch": (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.initial_seed(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
        ),
    }


def disturb() -> None:
    """Give each fact a value that nobody would choose."""
    import torch  # noqa: PLC0415 - as above.
    from PIL import Image, ImageFile  # noqa: PLC0415 - as above.

    Image.MAX_IMAGE_PIXELS = PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    warnings.resetwarnings()
    for number in HANDLED:
        signal.signal(number, nobodys)
    locale.setlocale(locale.LC_ALL, "C")
    os.chdir(tempfile.gettempdir())
    os.umask(0o27)
    socket.setdefaulttimeout(float(PIXELS))
    logging.getLogger().setLevel(PIXELS)
    torch.manual_seed(PIXELS)
    torch.set_num_threads(1)


def main() -> None:
    """Print what changed."""
    names = list(ours())
    for name in names:
        importlib.import_module(name)
    disturb()
    for name in names:
        del sys.modules[name]
    changed = {}
    before = facts()
    for name in names:
        importlib.import_module(name)
        after = facts()
        if different := [fact for fact, value in after.items() if value != before[fact]]:
            changed[name] = different
            before = after
    sys.stdout.write(json.dumps({"modules": len(names), "changed": changed}))


if __name__ == "__main__":
    main()
