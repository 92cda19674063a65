"""How every process of Topwork begins, before it opens anything: called first by each `main`.

A process that is started with its standard descriptors closed gives their numbers to the first
files that it opens, a database for example, and whatever prints then writes into these.
"""

import os
import sys

PRIVATE = 0o077
STANDARD = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def begin() -> None:
    """Make new files this user's only, and open what is closed of stdin, stdout and stderr.

    Both hold for the processes that this one starts, too.
    """
    os.umask(PRIVATE)
    for number, (name, mode) in STANDARD.items():
        try:
            os.fstat(number)
        except OSError:
            _open_nothing(number)
        if getattr(sys, name) is None:
            # The descriptor stays open for what writes to it past this stream.
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - as above.
            setattr(sys, name, stream)


def _open_nothing(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)  # noqa: FBT003 - it takes no name.
