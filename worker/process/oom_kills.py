"""Out-of-memory kills: how many processes the kernel has killed around here."""

import contextlib
from pathlib import Path

from core.system.cgroup import CGROUPS, files


def oom_kills(cgroups: Path = CGROUPS) -> int:
    """Return how often the kernel has killed for memory in our control group, or anywhere.

    Sources: `memory.events` of cgroup v2, `memory.oom_control` of v1, else `/proc/vmstat`; 0 on
    machines that count nothing. Only a rise between two calls means anything.
    """
    groups = files("memory", "memory.events", "memory.oom_control", cgroups)
    for path in (*groups, Path("/proc/vmstat")):
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0
