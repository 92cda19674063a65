"""Models, versions, aliases and architectures as clients see them."""

from typing import Any, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from app.api.schemas.values import Answer, Body, Metadata, Moment
from core.domain import registry
from core.store.tables import Model, ModelVersion
from models.planning.catalogue import Architecture

MEASURED = ("evaluation", "confusion", "calibration", "errors", "predictions")
ALIAS = r"^[a-z][a-z0-9._-]{0,62}$"


class ModelVersionOut(Answer):
    """One published classifier; nothing about it ever changes."""

    id: str
    object: Literal["model_version"] = "model_version"
    model: str
    number: int
    job: str | None
    """The job that made it, while that job exists."""
    digest: str
    """SHA-256 of the weights."""
    architecture: str | None
    classes: list[str]
    """In the order of the network's outputs."""
    metrics: dict[str, Any]
    dataset: dict[str, Any] | None
    card: dict[str, Any]
    """Everything needed to use the weights without this service."""
    files: dict[str, Any]
    created_at: Moment
    links: dict[str, str]


class ModelOut(Answer):
    """A name that `POST /predict` answers to."""

    name: str
    object: Literal["model"] = "model"
    source: Literal["own", "imagenet"]
    """`own`: fine-tuned here; `imagenet`: an architecture with its published weights."""
    architecture: str | None
    description: str | None
    metadata: dict[str, Any]
    latest: int | None
    """Number of the newest version."""
    metrics: dict[str, Any]
    """Of the newest version."""
    aliases: dict[str, int]
    owner: str | None
    """Whose job published it first; null for ImageNet models."""
    created_at: Moment | None
    links: dict[str, str]


class AliasOut(Answer):
    """A movable pointer to a version."""

    object: Literal["alias"] = "alias"
    model: str
    alias: str
    version: int


class AliasRequest(Body):
    """Where an alias points."""

    version: int = Field(ge=1, le=2**31 - 1, examples=[3])


class ModelPatch(Body):
    """What can be changed about a model."""

    description: str | None = Field(None, max_length=1000)
    metadata: Metadata | None = None


class WeightsOut(Answer):
    """Published ImageNet weights."""

    preset: str
    url: str
    megabytes: float
    top1: float
    """Percent on ImageNet's validation images."""
    top5: float
    license: str | None
    available_offline: bool
    """Whether they are on this machine."""


class ArchitectureOut(Answer):
    """A network that can be fine-tuned."""

    name: str
    object: Literal["architecture"] = "architecture"
    family: str
    title: str
    """Of the paper."""
    paper: str
    parameters: int
    """For 1000 classes, without auxiliary heads."""
    gigaops: float
    """Multiply-adds for one image of `input_size`, in 10**9."""
    input_size: int
    min_size: int
    fixed_size: bool
    mean: list[float]
    std: list[float]
    interpolation: str
    head: str
    """Layer that is replaced."""
    auxiliary_heads: list[str]
    weights: WeightsOut | None
    """Null where nobody publishes any: such a network trains from scratch."""


def model_out(session: Session, row: Model) -> ModelOut:
    """Return an own model as clients see it."""
    own = f"/models/{row.name}"
    found = registry.versions(session, row.name)
    newest = found[0] if found else None
    links = {"self": own, "versions": f"{own}/versions"}
    return ModelOut.model_validate(
        {
            "name": row.name,
            "source": "own",
            "architecture": newest.card.get("architecture") if newest else None,
            "description": row.description,
            "metadata": row.user_metadata,
            "latest": newest.number if newest else None,
            "metrics": newest.card.get("metrics") or {} if newest else {},
            "aliases": registry.aliases(session, row.name),
            "owner": row.owner,
            "created_at": row.created_at,
            "links": links | ({"latest": f"{own}/versions/{newest.number}"} if newest else {}),
        }
    )


def imagenet_out(facts: Architecture) -> ModelOut:
    """Return an architecture with its published weights as a model."""
    weights = facts.weights
    metrics = {"top1": weights.top1, "top5": weights.top5} if weights else {}
    return ModelOut(
        name=facts.name,
        source="imagenet",
        architecture=facts.name,
        description=f"{facts.title}, with its published ImageNet weights.",
        metadata={},
        latest=None,
        metrics=metrics,
        aliases={},
        owner=None,
        created_at=None,
        links={"self": f"/models/{facts.name}", "architecture": f"/architectures/{facts.name}"},
    )


def model_version_out(row: ModelVersion) -> ModelVersionOut:
    """Return a version as clients see it."""
    own = f"/models/{row.name}/versions/{row.number}"
    links = {name: f"{own}/{name}" for name in MEASURED}
    links |= {f"files/{name}": f"{own}/files/{name}" for name in row.files}
    return ModelVersionOut.model_validate(
        {
            "id": row.id,
            "model": row.name,
            "number": row.number,
            "job": row.job_id,
            "digest": f"sha256:{row.digest}",
            "architecture": row.card.get("architecture"),
            "classes": row.card.get("classes") or [],
            "metrics": row.card.get("metrics") or {},
            "dataset": row.card.get("dataset"),
            "card": row.card,
            "files": row.files,
            "created_at": row.created_at,
            "links": {"self": own, **links},
        }
    )


def architecture_out(facts: Architecture, *, available: bool) -> ArchitectureOut:
    """Return an architecture as clients see it."""
    published = facts.weights
    return ArchitectureOut(
        name=facts.name,
        family=facts.family,
        title=facts.title,
        paper=facts.paper,
        parameters=facts.parameters,
        gigaops=facts.gigaops,
        input_size=facts.input_size,
        min_size=facts.min_size,
        fixed_size=facts.fixed_size,
        mean=list(facts.mean),
        std=list(facts.std),
        interpolation=facts.interpolation,
        head=facts.head,
        auxiliary_heads=[entry.layer for entry in facts.auxiliary],
        weights=WeightsOut(
            preset=published.preset,
            url=published.url,
            megabytes=published.megabytes,
            top1=published.top1,
            top5=published.top5,
            license=published.license,
            available_offline=available,
        )
        if published
        else None,
    )
