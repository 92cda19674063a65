"""Trusted hosts and CORS origins: the service's own names, and whose pages may use it."""

from typing import Any

from core.system.settings import Settings

READABLE = (
    "ETag", "Idempotent-Replayed", "Link", "Location", "Retry-After", "Tus-Resumable",
    "Upload-Expires", "Upload-Length", "Upload-Offset", "X-Request-Id",
)  # fmt: skip
SENDABLE = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match",
    "Last-Event-ID", "Tus-Resumable", "Upload-Checksum", "Upload-Length", "Upload-Metadata",
    "Upload-Offset", "X-Request-Id",
)  # fmt: skip
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def listed(text: str) -> list[str]:
    """Return the parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


def cross_origin(settings: Settings) -> dict[str, Any]:
    """Return the options of the CORS middleware; a browser's cookies are never asked for."""
    return {
        "allow_origins": listed(settings.cors_origins),
        "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
        "allow_headers": list(SENDABLE),
        "expose_headers": list(READABLE),
        "allow_credentials": False,
        "max_age": 600,
    }


def names(settings: Settings) -> frozenset[str]:
    """Return as which hosts the service answers; nothing means as any."""
    given = {name.lower() for name in listed(settings.trusted_hosts)}
    return frozenset(given | LOCAL_NAMES) if given else frozenset()


def without_port(host: str) -> str:
    """Return the name in a Host header, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
