"""The list of models to predict with: own ones and ImageNet ones, by name."""

from pathlib import Path

from sqlalchemy.orm import Session

from app.api.views.models import imagenet_view, model_view
from core.domain import registry
from models.planning import catalogue
from models.weights import local_weights
from topwork import types
from topwork.errors import ModelNotFound
from topwork.kinds import ModelSource


def page(
    session: Session,
    weights_dir: Path,
    *,
    limit: int,
    after: str | None,
    order: str,
    source: ModelSource | None,
) -> tuple[list[types.Model], bool]:
    """Return up to `limit` models beyond the cursor and whether there are more.

    Of the ImageNet models those are listed whose weights are on this machine.
    """
    models: list[types.Model] = []
    if source in (None, ModelSource.OWN):
        rows, _ = registry.page(session, limit=limit + 1, after=after, order=order)
        models += [model_view(session, row) for row in rows]
    if source in (None, ModelSource.IMAGENET):
        names = [entry.architecture for entry in local_weights.entries(weights_dir)]
        beyond = [name for name in names if after is None or _is_beyond(name, after, order)]
        models += [imagenet_view(catalogue.get(name)) for name in beyond]
    models.sort(key=lambda model: model.name, reverse=order == "desc")
    return models[:limit], len(models) > limit


def _is_beyond(name: str, after: str, order: str) -> bool:
    return name < after if order == "desc" else name > after


def get(session: Session, name: str) -> types.Model:
    """Return a model; raises ModelNotFound with the nearest names."""
    if name not in catalogue.names():
        return model_view(session, registry.get(session, name))
    facts = catalogue.get(name)
    if facts.weights is None:
        raise ModelNotFound(f"nobody publishes ImageNet weights for {name}", param="model")
    return imagenet_view(facts)
