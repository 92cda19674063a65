"""Decode images in child processes with limits on memory and time.

A hostile image can at worst end its own decoder: the pool then finds out which image of the batch
it was, reports that one and goes on with a fresh process.
"""

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import BinaryIO, Self

from core.imaging.decode import ImageLimits
from core.imaging.inspection import inspect
from core.imaging.process_limits import CPU_SECONDS, cpu_limit, limit_process
from core.system.child import reader
from core.system.run_dir import ChildLost
from topwork.errors import TopworkError

LENGTH = struct.Struct("<I")
READY = b"ready\n"
MODULE = ("-m", "core.ingest.decoders")


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """What decoding one image gave; `code` is None when it is good."""

    width: int = 0
    height: int = 0
    suffix: str = ""
    findings: tuple[str, ...] = ()
    code: str | None = None
    message: str = ""
    range: tuple[int, int] | None = None  # As of `ImageInfo`.
    phash: str = ""  # Hex; empty where the picture has none, and until `hashed`.
    miniature: bytes = b""  # Only on its way to `hashed`.


FAILED = DecodeResult(code="decoder_failed")


class Decoders:
    """A pool of decoder processes; batches go in, a verdict for each image comes out.

    Args:
        processes: How many images are decoded at the same time.
        max_pixels: Larger images are refused before they are decoded.
    """

    def __init__(self, processes: int, max_pixels: int) -> None:
        self._threads = ThreadPoolExecutor(processes, "decoders")
        self._max_pixels = max_pixels
        self._mine = threading.local()
        self._all: set[_Decoder] = set()
        self._lock = threading.Lock()
        self._closing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Killing first frees the threads from waiting for answers that nobody wants any more.
        with self._lock:
            self._closing = True
            for decoder in self._all:
                decoder.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for decoder in self._all:
            decoder.close()

    def submit(self, batch: Sequence[bytes]) -> Future[list[DecodeResult]]:
        """Have a batch decoded; the future holds a verdict for each image, in order."""
        return self._threads.submit(self._decode, batch)

    def _decode(self, batch: Sequence[bytes]) -> list[DecodeResult]:
        verdicts = self._ask(batch)
        if verdicts is not None:
            return verdicts
        # Each on its own, so that a decoder lost to another image, or to a passing shortage of
        # memory, costs no good one.
        alone = (self._ask([data]) for data in batch)
        return [FAILED if verdicts is None else verdicts[0] for verdicts in alone]

    def _ask(self, batch: Sequence[bytes]) -> list[DecodeResult] | None:
        """Return verdicts from this thread's decoder, or None where it died."""
        decoder: _Decoder | None = getattr(self._mine, "decoder", None)
        if decoder is None:
            with self._lock:
                if self._closing:
                    return None
                decoder = _Decoder(self._max_pixels)
                self._all.add(decoder)
            self._mine.decoder = decoder
            if not decoder.started() and not self._closing:
                message = "a decoder process does not start; its own words are in the log"
                raise ChildLost(message)
        verdicts = decoder.ask(batch)
        if verdicts is None:
            self._mine.decoder = None
            with self._lock:
                self._all.discard(decoder)
            decoder.kill()
            decoder.close()
        return verdicts


class _Decoder:
    def __init__(self, max_pixels: int) -> None:
        child = reader(*MODULE, str(max_pixels))
        self._process = subprocess.Popen(
            child.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child.env,
        )

    def started(self) -> bool:
        """Wait for the process to be ready; a broken installation is no image's fault."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe.
        return self._process.stdout.readline() == READY

    def ask(self, batch: Sequence[bytes]) -> list[DecodeResult] | None:
        """Return a verdict for each image, or None where the process died."""
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
        verdicts = []
        for width, height, suffix, findings, code, message, extent, length in json.loads(line):
            small = stdout.read(length)
            if len(small) < length:
                return None
            seen = (width, height, suffix, tuple(findings), code, message)
            pair = None if extent is None else (extent[0], extent[1])
            verdicts.append(DecodeResult(*seen, range=pair, miniature=small))
        return hashed(verdicts)

    def kill(self) -> None:
        """End the process; a thread that waits for its answer gets none."""
        self._process.kill()

    def close(self) -> None:
        """Wait for the killed process and close its pipes."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # noqa: S101 - both are pipes.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def hashed(verdicts: Sequence[DecodeResult]) -> list[DecodeResult]:
    """Return the verdicts with a perceptual hash in place of the miniature."""
    from core.imaging.perceptual_hash import perceptual_hashes  # noqa: PLC0415 - numpy: neither a decoder nor a dry run needs it.

    hashes = perceptual_hashes([it.miniature for it in verdicts])
    pairs = zip(verdicts, hashes, strict=True)
    return [replace(it, phash=(phash or b"").hex(), miniature=b"") for it, phash in pairs]


def examine(data: bytes, limits: ImageLimits) -> DecodeResult:
    """Decode one image in this process."""
    try:
        info = inspect(data, limits)
    except TopworkError as error:
        return DecodeResult(code=error.code, message=error.message)
    suffix = {"JPEG": "jpg", "TIFF": "tif", "HEIF": "heic"}.get(info.format, info.format.lower())
    size = info.width, info.height
    findings, small = info.findings, info.miniature
    return DecodeResult(*size, suffix, findings, range=info.range, miniature=small)


def serve(requests: BinaryIO, answers: BinaryIO, limits: ImageLimits) -> None:
    """Answer batches until the pipe is closed; too long on one image ends the process."""
    parent = os.getppid()
    while header := requests.read(LENGTH.size):
        (images,) = LENGTH.unpack(header)
        batch = []
        for _ in range(images):
            (length,) = LENGTH.unpack(requests.read(LENGTH.size))
            batch.append(requests.read(length))
        verdicts, miniatures = [], []
        for data in batch:
            if os.getppid() != parent:
                return
            with cpu_limit(CPU_SECONDS):
                verdict = examine(data, limits)
            miniatures.append(verdict.miniature)
            verdicts.append(
                (
                    verdict.width,
                    verdict.height,
                    verdict.suffix,
                    verdict.findings,
                    verdict.code,
                    verdict.message,
                    verdict.range,
                    len(verdict.miniature),
                )
            )
        answers.write(json.dumps(verdicts).encode() + b"\n")
        answers.write(b"".join(miniatures))
        answers.flush()


def main() -> None:
    """Run one decoder between two pipes."""
    limit_process()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    serve(sys.stdin.buffer, sys.stdout.buffer, ImageLimits(max_pixels=int(sys.argv[1])))


if __name__ == "__main__":
    main()
