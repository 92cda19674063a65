"""Out-of-memory kills: how many processes the kernel has killed around here."""

import contextlib
from pathlib import Path

from core.system.machine import CGROUPS


def oom_kills() -> int:
    """Return how often the kernel has killed for memory in our control group, or anywhere.

    Sources: `memory.events` of cgroup v2, `memory.oom_control` of v1, else `/proc/vmstat`; 0 on
    machines that count nothing. Only a rise between two calls means anything.
    """
    for path in (*_memory_files(), Path("/proc/vmstat")):
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0


def _memory_files() -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.append(CGROUPS / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                found.append(CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    # Inside a container the group's own folder is often mounted as the root.
    return [*found, CGROUPS / "memory.events", CGROUPS / "memory" / "memory.oom_control"]
