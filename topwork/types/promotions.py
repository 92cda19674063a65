"""Moves of an alias from version to version, and the gate in front of a promotion."""

from typing import Annotated, Literal

from pydantic import Field

from topwork.kinds import MoveKind
from topwork.types.values import Answer, Body, Moment, Open

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Gate(Body):
    """What a version has to show before an alias is moved to it; null leaves a rule out.

    The first two rules compare with the version that the alias points to; there is nothing to
    compare with while the alias does not exist.
    """

    max_class_drop: Share | None = Field(
        0.05, description="By how much the recall of any class may fall."
    )
    max_accuracy_drop: Share | None = Field(
        0.05,
        description="How far below 0 the paired 95 % interval of the change of accuracy may reach.",
    )
    max_ece: Share | None = Field(None, description="Most expected calibration error.")
    min_images: int = Field(1, ge=1, le=2**31 - 1, description="Fewest images to judge by.")
    split: Literal["val", "test"] | None = Field(
        None, description="Whose images count; `test` where both versions have it, otherwise `val`."
    )


class PromotionRequest(Body):
    """The version that an alias is to point to, and what it has to show."""

    version: int = Field(ge=1, le=2**31 - 1, examples=[3], description="Number of the version.")
    gate: Gate = Field(Gate(), description="What it has to show.")


class GateCheck(Answer):
    """One rule of the gate and what was found."""

    rule: str = Field(description="`max_class_drop`, `max_accuracy_drop`, `max_ece`, ...")
    class_name: str | None = Field(None, alias="class", description="Class that it is about.")
    passed: bool = Field(description="Whether the version has shown it.")
    limit: float = Field(description="What the gate allows.")
    value: float | None = Field(description="What was found; null where no image tells.")


class Evidence(Answer):
    """What a promotion rested on."""

    against: int | None = Field(description="Version that the alias pointed to; null without one.")
    split: str = Field(description="Whose images were counted.")
    images: int = Field(description="How many.")
    checks: list[GateCheck] = Field(description="The rules, with what was found.")


class AliasMove(Answer):
    """One move of an alias; moves are never changed, and go with their model."""

    id: int = Field(description="Counts the moves of the alias from 1.")
    object: Literal["alias_move"] = Field("alias_move", description="Always `alias_move`.")
    model: str = Field(description="Name of the model.")
    alias: str = Field(description="As in `model@alias`.")
    kind: Open[MoveKind] = Field(description="What moved it.")
    version: int | None = Field(description="Where it points since; null where it was removed.")
    previous: int | None = Field(description="Where it pointed before; null where nowhere.")
    evidence: Evidence | None = Field(description="What a promotion rested on.")
    created_at: Moment = Field(description="When it was moved.")
