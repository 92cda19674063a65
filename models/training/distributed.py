"""Several processes that train one network: each takes its part of every batch.

The process that was started is rank 0. It starts the others, decides when to stop and is the only
one that writes. Every rank walks through the same program; what a batch teaches is summed over
the ranks in one fixed order, weighted by how many images each had, so the result is that of one
process up to rounding, and that of the same ranks after a restart to the bit. A rank that dies
takes all with it within moments, and the next attempt goes on from the checkpoint.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from core.system.child import python
from core.system.machine import cores
from core.system.run_dir import CRASHED, FAILED, RunDir
from core.system.tether import die_with_parent
from models.data.sources import Indices
from topwork.errors import InvalidField, OutOfMemory

STEP_WAIT = timedelta(minutes=10)  # Longest wait inside a step, a save of rank 0 included.
TURN_WAIT = timedelta(days=1)  # While rank 0 decodes or downloads, the others wait.
LEAVE_SECONDS = 10.0
KILLED = -signal.SIGKILL  # By the kernel for memory, most often.
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


class Member(RunDir):
    """RUN_DIR as ranks other than 0 see it: theirs to read."""

    def __init__(self, path: Path, rank: int) -> None:
        super().__init__(path, quiet=True)
        self.rank = rank


class Group:
    """All ranks of a run, or this process alone; a context manager that leaves none behind.

    Attributes:
        rank: This process's number; 0 writes.
        size: How many there are.
    """

    def __init__(self, run: RunDir, devices: int) -> None:
        self.rank = run.rank if isinstance(run, Member) else 0
        self.size = devices
        self._run, self._store = run, run.path / "ranks"
        self._others: list[subprocess.Popen[bytes]] = []
        self._leaving = threading.Event()
        self._control: dist.ProcessGroup | None = None

    def __enter__(self) -> Self:
        """Start the other ranks and meet them."""
        if self.size == 1:
            return self
        check_machine(self.size)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", LOOPBACK)
        if self.rank == 0:
            self._store.unlink(missing_ok=True)
            for rank in range(1, self.size):
                self._start(rank)
        store = dist.FileStore(str(self._store), self.size)  # type: ignore[attr-defined]  # Documented, not listed.
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(self.rank)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.size,
            timeout=STEP_WAIT,
        )
        self._control = dist.new_group(backend="gloo", timeout=TURN_WAIT)  # type: ignore[assignment]  # -100 is for processes outside a group.
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End the other ranks; where one alone ran out of memory, or was killed, all did or are."""
        self._leaving.set()
        if error is None and self.size > 1:
            dist.destroy_process_group()
        codes = [self._end(other, wait=error is None) for other in self._others]
        if self.rank == 0:
            self._store.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and FAILED in codes:
            raise OutOfMemory from error
        if isinstance(error, RuntimeError) and KILLED in codes:
            die_of(KILLED)  # The error is only that the line to it broke.

    def lead(self, question: Callable[[], bool]) -> bool:
        """Return rank 0's answer on every rank; only rank 0 is asked."""
        answer = self.rank == 0 and question()
        if self.size == 1:
            return answer
        shared = torch.tensor([answer], dtype=torch.uint8)
        dist.broadcast(shared, 0, self._control)
        return bool(shared.item())

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let rank 0 do something first, then the others, who find what it left on disk."""
        if self.rank:
            dist.barrier(self._control)
        yield
        if self.rank == 0 and self.size > 1:
            dist.barrier(self._control)
        if self.size > 1:
            dist.barrier(self._control)

    def part(self, batch: Indices) -> tuple[Indices, float]:
        """Return this rank's samples of a batch and their share of it.

        A rank for which none is left computes on one sample that counts nothing.
        """
        if self.size == 1:
            return batch, 1.0
        mine = np.array_split(batch, self.size)[self.rank]
        return (mine if len(mine) else batch[:1]), len(mine) / len(batch)

    def sum_gradients(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Sum the gradients of the ranks in place; return the sum of their losses.

        One buffer in the order of the parameters: unlike buckets that follow the order in which
        gradients become ready, it adds in the same order after a restart.
        """
        if self.size == 1:
            return loss
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        flat = torch.cat([*(one.reshape(-1).float() for one in gradients), loss.reshape(1)])
        dist.all_reduce(flat)
        start = 0
        for one in gradients:
            one.copy_(flat[start : start + one.numel()].view_as(one))
            start += one.numel()
        return flat[-1]

    def own(self, count: int) -> range:
        """Return which of `count` pieces of independent work this rank does."""
        return range(self.rank, count, self.size)

    def gathered(self, rows: Tensor) -> Tensor:
        """Return rows to which each rank has contributed its own, zeros elsewhere."""
        if self.size > 1:
            dist.all_reduce(rows, group=self._control)
        return rows

    def share_buffers(self, model: nn.Module) -> None:
        """Give all ranks the running statistics of rank 0."""
        for buffer in model.buffers() if self.size > 1 else ():
            dist.broadcast(buffer, 0)

    def synchronised(self, model: nn.Module) -> nn.Module:
        """Let batch normalisation see whole batches where the device can (CPUs cannot)."""
        if self.size > 1 and torch.cuda.is_available():
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch says no type.
            return converted
        return model

    def _start(self, rank: int) -> None:
        child = python("-m", "models.rank", str(self._run.path), str(rank), str(os.getpid()))
        other = subprocess.Popen(child.command, env=child.env, stdin=subprocess.DEVNULL)
        self._others.append(other)
        threading.Thread(target=self._watch, args=(other, rank), daemon=True).start()

    def _watch(self, other: subprocess.Popen[bytes], rank: int) -> None:
        """End with a rank that crashed: waiting for it could take until a timeout."""
        code = other.wait()
        if not self._leaving.is_set() and (code < 0 or code == CRASHED):
            with contextlib.suppress(OSError):  # A full disk must not keep this process waiting.
                sys.stderr.write(f"rank {rank} ended with exit code {code}\n")
                sys.stderr.flush()
            die_of(code)

    def _end(self, other: subprocess.Popen[bytes], *, wait: bool) -> int:
        """Return how a rank ended by itself; CRASHED where it had to be killed here."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return other.wait(LEAVE_SECONDS if wait else 0.5)
        other.kill()
        other.wait()
        return CRASHED


def die_of(code: int) -> NoReturn:
    """Die as a rank died: the worker knows the kernel's kill for memory by its signal alone."""
    if code == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(CRASHED)


def check_machine(devices: int) -> None:
    """Raise InvalidField where there are fewer devices: GPUs, or cores without one."""
    most, kind = cores(), "core"
    if torch.cuda.is_available():
        most, kind = torch.cuda.device_count(), "GPU"
    if devices > most:
        raise InvalidField(
            f"{devices} devices were asked for; this machine grants {most} {kind}s.",
            param="devices",
            hint=f"Ask for at most {most}, or leave it out.",
        )


def follow(leader: int) -> None:
    """Tie this process to rank 0, which alone decides when to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(leader)
