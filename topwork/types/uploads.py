"""Resumable uploads."""

from typing import Literal

from pydantic import Field

from topwork.types.values import Answer, Moment


class Upload(Answer):
    """An archive that arrives in pieces."""

    id: str = Field(description="`up_...`.")
    object: Literal["upload"] = Field("upload", description="Always `upload`.")
    length: int = Field(description="Bytes in all.")
    offset: int = Field(description="Bytes that have arrived and are on disk.")
    filename: str | None = Field(description="As the client named it.")
    owner: str = Field(description="Whose key announced it.")
    created_at: Moment = Field(description="When it was announced.")
    expires_at: Moment = Field(description="Until then it can be used.")
