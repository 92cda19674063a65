"""Decode images in child processes with limits on memory and time.

A hostile image can at worst end its own decoder: the pool then finds out which image of the batch
it was, reports that one and goes on with a fresh process.
"""

import json
import os
import queue
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from core.errors import TopworkError
from core.images import ImageLimits, decode, probe
from core.settings import MEBIBYTE

MEMORY_BYTES = 2048 * MEBIBYTE  # Address space; 36 megapixels as RGB are 0.1 GiB a copy.
CPU_SECONDS = 20.0
LENGTH = struct.Struct("<I")
ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What decoding one image gave; `code` is None when it is good."""

    width: int = 0
    height: int = 0
    suffix: str = ""
    findings: tuple[str, ...] = ()
    code: str | None = None
    message: str = ""


FAILED = Verdict(code="decoder_failed")


class Decoders:
    """A pool of decoder processes; batches go in, a verdict for each image comes out.

    Args:
        processes: How many images are decoded at the same time.
        max_pixels: Larger images are refused before they are decoded.
    """

    def __init__(self, processes: int, max_pixels: int) -> None:
        self._threads = ThreadPoolExecutor(processes, "decoders")
        self._max_pixels = max_pixels
        self._idle: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        self._closing = False
        for _ in range(processes):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            decoder = self._idle.get_nowait()
            if decoder is not None:
                decoder.kill()

    def submit(self, batch: Sequence[bytes]) -> Future[list[Verdict]]:
        """Have a batch decoded; the future holds a verdict for each image, in order."""
        return self._threads.submit(self._decode, batch)

    def _decode(self, batch: Sequence[bytes]) -> list[Verdict]:
        verdicts = self._ask(batch)
        if verdicts is not None:
            return verdicts
        return [self._decode_alone(data) for data in batch]

    def _decode_alone(self, data: bytes) -> Verdict:
        # Twice, so that a decoder lost to a passing shortage costs no image.
        for _ in range(ATTEMPTS):
            if self._closing:
                break
            verdicts = self._ask([data])
            if verdicts is not None:
                return verdicts[0]
        return FAILED

    def _ask(self, batch: Sequence[bytes]) -> list[Verdict] | None:
        """Return verdicts, or None where the decoder died."""
        decoder = self._idle.get() or _Decoder(self._max_pixels)
        verdicts = decoder.ask(batch)
        if verdicts is None:
            decoder.kill()
        self._idle.put(decoder if verdicts is not None else None)
        return verdicts


class _Decoder:
    def __init__(self, max_pixels: int) -> None:
        # One thread for numpy: its pool would reserve most of the address space.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "core.decoders", str(max_pixels)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def ask(self, batch: Sequence[bytes]) -> list[Verdict] | None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - both are pipes.
        try:
            stdin.write(LENGTH.pack(len(batch)))
            for data in batch:
                stdin.write(LENGTH.pack(len(data)))
                stdin.write(data)
            stdin.flush()
        except BrokenPipeError:
            return None
        line = stdout.readline()
        if not line.endswith(b"\n"):
            return None
        return [
            Verdict(width, height, suffix, tuple(findings), code, message)
            for width, height, suffix, findings, code, message in json.loads(line)
        ]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # noqa: S101 - both are pipes.
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def examine(data: bytes, limits: ImageLimits) -> Verdict:
    """Decode one image in this process."""
    try:
        info = probe(data, limits)
        decode(data, limits)
    except TopworkError as error:
        return Verdict(code=error.code, message=error.message)
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(info.format, info.format.lower())
    return Verdict(info.width, info.height, suffix, info.findings)


def serve(requests: BinaryIO, answers: BinaryIO, limits: ImageLimits) -> None:
    """Answer batches until the pipe is closed; too long on one image ends the process."""
    while header := requests.read(LENGTH.size):
        (images,) = LENGTH.unpack(header)
        batch = []
        for _ in range(images):
            (length,) = LENGTH.unpack(requests.read(LENGTH.size))
            batch.append(requests.read(length))
        verdicts = []
        for data in batch:
            # The clock counts CPU time, so a busy machine rejects nothing; its signal is left to
            # its default action, which also ends code that never returns to Python.
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            verdict = examine(data, limits)
            signal.setitimer(signal.ITIMER_PROF, 0)
            verdicts.append(
                (
                    verdict.width,
                    verdict.height,
                    verdict.suffix,
                    verdict.findings,
                    verdict.code,
                    verdict.message,
                )
            )
        answers.write(json.dumps(verdicts).encode() + b"\n")
        answers.flush()


def main() -> None:
    """Run one decoder between two pipes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    serve(sys.stdin.buffer, sys.stdout.buffer, ImageLimits(max_pixels=int(sys.argv[1])))


if __name__ == "__main__":
    main()
