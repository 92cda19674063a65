"""Prefixed ids that sort by creation time."""

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_CHARS = 10
RANDOM_CHARS = 12


def new_id(prefix: str) -> str:
    """Return `prefix_` + 22 base-32 characters: 50 bits of milliseconds, 60 random bits.

    The time comes first, so ids of one prefix sort by creation (Crockford's alphabet, as ULID).
    """
    number = (time.time_ns() // 1_000_000) << (5 * RANDOM_CHARS) | secrets.randbits(
        5 * RANDOM_CHARS
    )
    shifts = range(5 * (TIME_CHARS + RANDOM_CHARS - 1), -1, -5)
    return f"{prefix}_{''.join(ALPHABET[number >> shift & 31] for shift in shifts)}"
