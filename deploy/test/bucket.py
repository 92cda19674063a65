#!/usr/bin/env python3
"""Stand in for versitygw: `bucket.py --port :PORT --health PATH posix FOLDER`, objects in memory.

Each folder of FOLDER is a bucket, as there. A request that ROOT_ACCESS_KEY_ID has not signed with
ROOT_SECRET_ACCESS_KEY is refused, which moto's server does not do by itself: Signature Version 4,
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import argparse
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

ACCOUNT = "123456789012"  # Moto's for whoever is not known to it.
Environ, Start = dict[str, Any], Callable[[str, list[tuple[str, str]]], object]
SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\S+?)/(\S+?), ?SignedHeaders=(\S+?), ?Signature=(\w+)"
)


def is_signed(environ: Environ, key: str, secret: str) -> bool:
    """Return whether a request is signed with this key."""
    found = SIGNED.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    if not found or found[1] != key:
        return False
    path, _, query = environ["RAW_URI"].partition("?")
    names = found[3].split(";")
    plain = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
    headers = [
        environ.get(plain.get(name, f"HTTP_{name.upper().replace('-', '_')}"), "") for name in names
    ]
    parts = [part if "=" in part else f"{part}=" for part in query.split("&") if part]
    request = [environ["REQUEST_METHOD"], path, "&".join(sorted(parts))]
    request += [
        f"{name}:{' '.join(value.split())}" for name, value in zip(names, headers, strict=True)
    ]
    request += ["", found[3], environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")]
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{environ['HTTP_X_AMZ_DATE']}\n{found[2]}\n{digest}"
    signing = b"AWS4" + secret.encode()
    for word in [*found[2].split("/"), text]:
        signing = hmac.digest(signing, word.encode(), "sha256")
    return hmac.compare_digest(signing.hex(), found[4])


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port")
    parser.add_argument("--health")
    parser.add_argument("backend", choices=["posix"])
    parser.add_argument("folder", type=Path)
    words = parser.parse_args()
    key, secret = os.environ["ROOT_ACCESS_KEY_ID"], os.environ["ROOT_SECRET_ACCESS_KEY"]
    for folder in words.folder.iterdir():
        s3_backends[ACCOUNT]["aws"].create_bucket(folder.name, os.environ["VGW_REGION"])
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == words.health:
            start("200 OK", [])
            return []
        if not is_signed(environ, key, secret):
            start("403 Forbidden", [])
            return []
        return moto(environ, start)

    run_simple("0.0.0.0", int(words.port.lstrip(":")), answer, threaded=True)  # noqa: S104


if __name__ == "__main__":
    main()
