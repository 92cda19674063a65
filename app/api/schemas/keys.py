"""API keys as admins see them."""

from typing import Annotated, Literal

from pydantic import Field

from app.api.schemas.values import Answer, Body, Moment
from core.store.tables import ApiKey

Scope = Literal["read", "predict", "train", "admin"]
Owner = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", examples=["anna"])]
Days = Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)]


class KeyRequest(Body):
    """A new key: for whom, what for, and until when."""

    owner: Owner | None = None
    """Whose objects it sees and adds; default is the owner of the key that asks."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4, examples=[["train"]])]
    """`train` includes `read` and `predict`; `admin` includes everything, of every owner."""
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["laptop"])] | None = None
    """A word to recognise it by."""
    expires_in_days: Days | None = None
    """Never, where absent."""


class KeyOut(Answer):
    """A key without its secret, which is kept nowhere."""

    id: str
    object: Literal["key"] = "key"
    owner: str
    scopes: list[Scope]
    name: str | None
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None
    """To the minute."""
    revoked_at: Moment | None


class KeyCreated(KeyOut):
    """The only answer that shows a key."""

    key: str


def key_created(row: ApiKey, key: str) -> KeyCreated:
    """Return a new key with its secret."""
    return KeyCreated(**KeyOut.model_validate(row).model_dump(), key=key)
