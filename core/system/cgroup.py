"""Control groups: the files in which the kernel says what a process is granted and what it met.

Both versions are read, as many machines still boot with the first: cgroup v2 has one tree, v1 one
for each controller (https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

import contextlib
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def files(
    controller: str,
    v2: str,
    v1: str,
    cgroups: Path = CGROUPS,
    membership: Path = MEMBERSHIP,
) -> list[Path]:
    """Return the files of one name that count for this process, its own group's first.

    The groups above it follow, because each of them bounds it as well. Not all files exist: inside
    a container the group's own folder is often mounted as the root, under which it has no path.

    Args:
        controller: Such as `memory` or `cpu`.
        v2: The file's name in cgroup v2.
        v1: Its name in cgroup v1.
        cgroups: Where the trees are mounted.
        membership: What lists the groups of this process.
    """
    found = []
    with contextlib.suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += _upwards(cgroups, path, v2)
            elif controller in controllers.split(","):
                found += _upwards(cgroups / controller, path, v1)
    return list(dict.fromkeys([*found, cgroups / v2, cgroups / controller / v1]))


def _upwards(tree: Path, path: str, name: str) -> list[Path]:
    group = tree / path.lstrip("/")
    return [one / name for one in (group, *group.parents) if one.is_relative_to(tree)]
