"""API keys: `tw_<id>_<secret>`, of which only the secret's hash is kept.

The secret has 256 random bits, so one round of SHA-256 protects it; a slow hash would only give
strangers a way to keep this machine busy.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.store.db import db_now
from core.store.pagination import page_of
from core.store.row_access import Caller
from core.store.tables import ApiKey
from core.system.ids import new_id
from topwork.errors import InvalidField, KeyNotFound

FORMAT = re.compile(r"tw_([0-9a-z]{22})_([0-9a-f]{64})")
DAY = 24 * 3600.0
USE_NOTED_EVERY = 60.0
"""Seconds for which a key's last use is not written again: a request must not cost a write."""


@dataclass(frozen=True)
class Known:
    """What a valid key stands for."""

    id: str
    caller: Caller
    use_is_old: bool
    """Whether `last_used_at` is due to be written."""


def create(
    session: Session,
    *,
    owner: str,
    scopes: Collection[str],
    name: str | None = None,
    expires_in_days: float | None = None,
) -> tuple[ApiKey, str]:
    """Add a key; returns its row and the key itself, which nothing can show again."""
    secret = secrets.token_hex(32)
    row = ApiKey(
        id=new_id("key"),
        owner=owner,
        scopes=sorted(set(scopes)),
        name=name,
        digest=_digest(secret),
        expires_at=None if expires_in_days is None else db_now() + expires_in_days * DAY,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row, f"tw_{row.id.removeprefix('key_')}_{secret}"


def check(session: Session, key: str) -> Known | None:
    """Return whose a key is, or None when it is unknown, expired or revoked."""
    parts = FORMAT.fullmatch(key)
    if parts is None:
        return None
    overdue = (ApiKey.expires_at.is_not(None)) & (ApiKey.expires_at <= db_now())
    unnoted = ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < db_now() - USE_NOTED_EVERY)
    wanted = select(ApiKey, overdue, unnoted).where(ApiKey.id == f"key_{parts[1]}")
    found = session.execute(wanted).one_or_none()
    if found is None:
        return None
    row, expired, use_is_old = found
    same = hmac.compare_digest(row.digest, _digest(parts[2]))
    if not same or expired or row.revoked_at is not None:
        return None
    return Known(row.id, Caller(row.owner, frozenset(row.scopes), row.id), bool(use_is_old))


def note_use(session: Session, key_id: str) -> None:
    """Write down that a key is used now."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=db_now()))


def any_exists(session: Session) -> bool:
    """Return whether a key was ever made; a revoked or expired one counts."""
    return session.execute(select(ApiKey.id).limit(1)).first() is not None


def check_first(session: Session, scopes: Collection[str]) -> None:
    """Refuse a first key that could not make a second one.

    Raises:
        InvalidField: No key exists yet and this one lacks the scope admin.
    """
    if "admin" not in scopes and not any_exists(session):
        hint = "Make an admin key first, or set TOPWORK_ADMIN_KEY."
        raise InvalidField("nobody could make further keys", param="scopes", hint=hint)


def page(
    session: Session, *, limit: int = 20, after: str | None = None, order: str = "desc"
) -> tuple[list[ApiKey], bool]:
    """Return up to `limit` keys beyond the cursor and whether there are more."""
    return page_of(session, select(ApiKey), ApiKey.id, limit=limit, after=after, order=order)


def revoke(session: Session, key_id: str) -> None:
    """Make a key worthless at once; harmless where it is already. Its row stays.

    Raises:
        KeyNotFound: There is no such key.
    """
    if session.get(ApiKey, key_id) is None:
        raise KeyNotFound(f"there is no key {key_id}")
    held = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    session.execute(held.values(revoked_at=db_now()))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
