"""Models, their versions and architectures as clients see them."""

from sqlalchemy.orm import Session

from app.api.views.rows import shaped
from core.domain import aliases, registry
from core.store import tables
from models.planning import heatmaps
from models.planning.catalogue import Architecture
from topwork import types
from topwork.errors import ModelNotFound
from topwork.kinds import ModelSource

MEASURED = ("evaluation", "confusion", "calibration", "errors", "predictions")


def model_view(session: Session, row: tables.Model) -> types.Model:
    """Return an own model with what its newest version was measured at."""
    own = f"/models/{row.name}"
    found = registry.versions(session, row.name)
    newest = found[0] if found else None
    links = {"self": own, "versions": f"{own}/versions"}
    return shaped(
        types.Model,
        row,
        source=ModelSource.OWN,
        architecture=newest.card.get("architecture") if newest else None,
        metadata=row.user_metadata,
        latest=newest.number if newest else None,
        metrics=newest.card.get("metrics") or {} if newest else {},
        aliases=aliases.of_model(session, row.name),
        links=links | ({"latest": f"{own}/versions/{newest.number}"} if newest else {}),
    )


def imagenet_view(facts: Architecture) -> types.Model:
    """Return an architecture with its published weights as a model."""
    weights = facts.weights
    return types.Model(
        name=facts.name,
        source=ModelSource.IMAGENET,
        architecture=facts.name,
        description=f"{facts.title}, with its published ImageNet weights.",
        metadata={},
        latest=None,
        metrics={"top1": weights.top1, "top5": weights.top5} if weights else {},
        aliases={},
        owner=None,
        created_at=None,
        links={"self": f"/models/{facts.name}", "architecture": f"/architectures/{facts.name}"},
    )


def version_view(row: tables.ModelVersion) -> types.ModelVersion:
    """Return a version with its card."""
    own = f"/models/{row.name}/versions/{row.number}"
    links = {name: f"{own}/{name}" for name in MEASURED}
    links |= {f"files/{name}": f"{own}/files/{name}" for name in row.files}
    links["exports"] = f"{own}/exports"
    return shaped(
        types.ModelVersion,
        row,
        model=row.name,
        job=row.job_id,
        digest=f"sha256:{row.digest}",
        architecture=row.card.get("architecture"),
        classes=row.card.get("classes") or [],
        metrics=row.card.get("metrics") or {},
        dataset=row.card.get("dataset"),
        heatmap=heatmaps.unavailable(row.card) is None,
        links={"self": own, **links},
    )


def export_view(version: tables.ModelVersion, row: tables.ModelExport) -> types.Export:
    """Return an export with where its files are."""
    own = f"/models/{version.name}/versions/{version.number}/exports/{row.format}"
    links = {f"files/{name}": f"{own}/files/{name}" for name in row.files}
    return shaped(
        types.Export,
        row,
        model=version.name,
        number=version.number,
        links={"self": own, **links},
    )


def alias_view(name: str, alias: str, number: int | None) -> types.Alias:
    """Return where an alias points, or raise ModelNotFound where it points nowhere."""
    if number is None:
        raise ModelNotFound(f"{name!r} has no alias {alias!r}", param="alias")
    return types.Alias(model=name, alias=alias, version=number)


def move_view(row: tables.AliasMove) -> types.AliasMove:
    """Return one move of an alias."""
    return shaped(types.AliasMove, row, id=row.seq, model=row.name, version=row.number)


def architecture_view(facts: Architecture, *, available: bool, offline: bool) -> types.Architecture:
    """Return an architecture, whether its weights are on this machine or may be downloaded."""
    obtainable = available or not offline
    weights = facts.weights and shaped(
        types.Weights, facts.weights, available_offline=available, obtainable=obtainable
    )
    heads = [entry.layer for entry in facts.auxiliary]
    heatmap = heatmaps.unsupported(facts.name) is None
    return shaped(
        types.Architecture, facts, auxiliary_heads=heads, weights=weights, heatmap=heatmap
    )
