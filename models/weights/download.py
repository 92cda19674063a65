"""Download one published file, check the hash in its name, and give up early where nobody answers.

Needs no torch.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2

from topwork.errors import IntegrityError, WeightsUnavailable

CHUNK = 1 << 20

Progress = Callable[[int, int | None], None]


def download(
    url: str, target: Path, *, hash_prefix: str, timeout: float, progress: Progress | None = None
) -> None:
    """Write the file at `url` to `target`; `timeout` seconds of silence at any point end it.

    `progress` is told the bytes so far and the total where the server says it.

    Raises:
        WeightsUnavailable: The host did not answer in time, broke off, or has no such file.
        IntegrityError: The file's SHA-256 does not begin with `hash_prefix`.
    """
    with httpx2.Client(timeout=timeout, follow_redirects=True) as client:
        try:
            response = _open(client, url, timeout)
            try:
                response.raise_for_status()
                digest = _write(response, target, progress)
            finally:
                response.close()
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise WeightsUnavailable(f"{url} could not be downloaded: {reason}") from error
    if not digest.startswith(hash_prefix):
        raise IntegrityError(
            f"{url} was downloaded with the SHA-256 {digest}, which does not begin with "
            f"{hash_prefix} as its name says. The file was thrown away."
        )


def _open(client: httpx2.Client, url: str, timeout: float) -> httpx2.Response:
    """Return the answer's headers within `timeout` seconds in all.

    A thread, because looking up a host name obeys no timeout, and each address of a host has its
    own.
    """
    answers: list[httpx2.Response | Exception] = []

    def work() -> None:
        try:
            answers.append(client.send(client.build_request("GET", url), stream=True))
        except Exception as error:  # noqa: BLE001  # Raised again below, in the caller's thread.
            answers.append(error)

    thread = threading.Thread(target=work, name="download", daemon=True)
    thread.start()
    thread.join(timeout)
    if not answers:
        raise httpx2.ConnectTimeout(f"no answer within {timeout:g} s")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _write(response: httpx2.Response, target: Path, progress: Progress | None) -> str:
    """Write the body and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    size = response.headers.get("content-length")
    total = int(size) if size and size.isdecimal() else None
    with target.open("wb") as file:
        for chunk in response.iter_bytes(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    return digest.hexdigest()
