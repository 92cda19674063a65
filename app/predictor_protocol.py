"""The protocol between api and predictor: one header of JSON, then the images' bytes.

`POST /predict` with `X-Topwork-Request: <Order as JSON>`; the answer is
`{"results": [...], "timing_ms": {...}, "model": {...}}` or a problem+json document.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from topwork.kinds import RejectMode

HEADER = "X-Topwork-Request"
SHA256 = r"^(sha256:)?[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageNetModel(_Part):
    """A published network with its 1000 ImageNet classes."""

    kind: Literal["imagenet"] = "imagenet"
    architecture: str


class StoredFile(_Part):
    """What a file of an artefact must be."""

    sha256: str = Field(pattern=SHA256)
    size: int = Field(ge=0)

    def plain(self) -> dict[str, str | int]:
        """Return `{sha256, size}` with the bare hexadecimal hash."""
        return {"sha256": self.sha256.removeprefix("sha256:"), "size": self.size}


class ArtefactModel(_Part):
    """A trained model in object storage: `prefix/<name>` for each of `files`."""

    kind: Literal["artefact"] = "artefact"
    prefix: str
    digest: str = Field(pattern=SHA256)
    files: dict[str, StoredFile]


PredictingModel = ImageNetModel | ArtefactModel


class Explain(_Part):
    """A heat map of each image, of one output (None: the first of the ranking)."""

    index: int | None = Field(None, ge=0)
    overlay: bool = False


class Order(_Part):
    """One request: which model, how many guesses, where each image ends, and who takes turns."""

    model: Annotated[PredictingModel, Field(discriminator="kind")]
    top_k: int = Field(5, ge=1)
    reject: RejectMode | float = RejectMode.AUTO
    explain: Explain | None = None
    sizes: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    filenames: list[str]
    owner: str = ""

    @model_validator(mode="after")
    def _one_name_an_image(self) -> Self:
        if len(self.filenames) != len(self.sizes):
            message = "sizes and filenames must have the same length"
            raise ValueError(message)
        return self

    def header(self) -> str:
        """Return the request as the ASCII that a header may hold."""
        return json.dumps(self.model_dump(mode="json"))
