"""API keys as admins see them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from topwork.kinds import Scope
from topwork.types.values import Answer, Body, Moment, Open, printable

Owner = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", examples=["anna"])]
KeyName = Annotated[
    str, AfterValidator(printable), Field(min_length=1, max_length=100, examples=["laptop"])
]
Days = Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)]


class ApiKeyRequest(Body):
    """A new key: for whom, what for, and until when."""

    owner: Owner | None = Field(
        None,
        description="Whose objects it sees and adds; default is the owner of the key that asks.",
    )
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4, examples=[["train"]])] = Field(
        description="`train` includes `read` and `predict`; `admin` everything, of every owner."
    )
    name: KeyName | None = Field(None, description="A word to recognise it by.")
    expires_in_days: Days | None = Field(None, description="Never, where absent.")


class ApiKey(Answer):
    """A key without its secret, which is kept nowhere."""

    id: str = Field(description="`key_...`.")
    object: Literal["key"] = Field("key", description="Always `key`.")
    owner: str = Field(description="Whose objects it sees and adds.")
    scopes: list[Open[Scope]] = Field(description="What it is for.")
    name: str | None = Field(description="A word to recognise it by.")
    created_at: Moment = Field(description="When it was made.")
    expires_at: Moment | None = Field(description="From then on it is worthless.")
    last_used_at: Moment | None = Field(description="To the minute.")
    revoked_at: Moment | None = Field(description="Since then it is worthless.")


class Session(Answer):
    """Who asks, and what for."""

    object: Literal["session"] = Field("session", description="Always `session`.")
    owner: str = Field(description="Whose objects are seen and added.")
    scopes: list[Open[Scope]] = Field(description="What the caller may do.")
    key: str | None = Field(description="Id of the key; null on this machine while there is none.")


class ApiKeyCreated(ApiKey):
    """The only answer that shows a key."""

    key: str = Field(description="What goes behind `Authorization: Bearer`.")
