"""Cores, memory and file systems that this machine, or the container around us, grants."""

import contextlib
import ctypes
import os
import re
from pathlib import Path

from core.system.cgroup import CGROUPS, files

# SQLite's write-ahead log needs shared memory and honest locks, which these do not give.
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
# How often threads of OpenMP look for work before they sleep; a process has this before it loads
# torch. Their default is milliseconds of looking, for cores that other processes need. A job sleeps
# at once, so that serving has these. One image after the other waits often and for microseconds,
# and to be woken takes longer than that: the predictor looks a little (`bench/waiting_threads.py`).
# See https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html.
SLEEP = {"GOMP_SPINCOUNT": "0"}
LOOK = {"GOMP_SPINCOUNT": "5000"}
_NO_MEMORY = re.compile(
    "out of memory|can't allocate memory|bad_alloc|memoryerror"
    "|could not (create|execute) a primitive(?! descriptor)"
    "|cannot allocate memory(?! in static tls)|failed to map segment from shared object"
)


def cores(cgroups: Path = CGROUPS) -> int:
    """Return how many cores this process may keep busy: affinity, bounded by the CPU quota.

    `OMP_NUM_THREADS`, where set, is the share that whoever started the process gave it.
    """
    share = os.environ.get("OMP_NUM_THREADS", "")
    if share.isdecimal() and int(share) > 0:
        return int(share)
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    for path in files("cpu", "cpu.max", "cpu.cfs_quota_us", cgroups):
        with contextlib.suppress(OSError, ValueError):  # No such group, or no quota: "max 100000".
            said = path.read_text()
            if path.name != "cpu.max":
                said += path.with_name("cpu.cfs_period_us").read_text()
            quota, period = map(int, said.split())
            if quota > 0:  # In cgroup v1 no quota is -1.
                count = min(count, max(1, quota // period))
    return count


def memory(cgroups: Path = CGROUPS) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its group's limit."""
    granted = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in files("memory", "memory.max", "memory.limit_in_bytes", cgroups):
        with contextlib.suppress(OSError, ValueError):  # No such group, or no limit: "max".
            granted.append(int(path.read_text()))
    return min(granted)


def give_memory_back() -> None:
    """Hand freed memory back to the system, which glibc keeps for the next request for as much."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether a failure is the lack of memory, of the machine or of its accelerator.

    torch has a class of its own for GPUs only; elsewhere the message says it, be it the kernel's or
    the loader's for a library that finds no address space. oneDNN, which runs convolutions on CPUs,
    names no cause: it has chosen a primitive, and has no room for its code.
    """
    return isinstance(error, MemoryError) or tells_of_no_memory(str(error))


def tells_of_no_memory(text: str) -> bool:
    """Tell whether a message, or the last words of a process that was aborted, say so."""
    return _NO_MEMORY.search(text.lower()) is not None


def filesystem(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the filesystem that holds a path, empty where that is not known."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    places = [(row[1].replace("\\040", " "), row[2]) for row in rows]
    holding = [(place, kind) for place, kind in places if path.is_relative_to(place)]
    # The last mount of the longest place is the one on top.
    return (
        max(enumerate(holding), key=lambda one: (len(one[1][0]), one[0]))[1][1] if holding else ""
    )
