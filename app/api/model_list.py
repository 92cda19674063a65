"""What models there are to predict with: own ones and ImageNet ones, in one list by name."""

from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from app.api.schemas.models import ModelOut, imagenet_out, model_out
from core.domain import registry
from models.planning import catalogue
from models.weights import local_weights
from topwork.errors import ModelNotFound

Source = Literal["own", "imagenet"]


def page(
    session: Session,
    weights_dir: Path,
    *,
    limit: int,
    after: str | None,
    order: str,
    source: Source | None,
) -> tuple[list[ModelOut], bool]:
    """Return up to `limit` models beyond the cursor and whether there are more.

    Of the ImageNet models those are listed whose weights are on this machine.
    """
    found: list[ModelOut] = []
    if source in (None, "own"):
        rows, _ = registry.page(session, limit=limit + 1, after=after, order=order)
        found += [model_out(session, row) for row in rows]
    if source in (None, "imagenet"):
        names = [entry.architecture for entry in local_weights.entries(weights_dir)]
        beyond = [name for name in names if after is None or _is_beyond(name, after, order)]
        found += [imagenet_out(catalogue.get(name)) for name in beyond]
    found.sort(key=lambda model: model.name, reverse=order == "desc")
    return found[:limit], len(found) > limit


def _is_beyond(name: str, after: str, order: str) -> bool:
    return name < after if order == "desc" else name > after


def get(session: Session, name: str) -> ModelOut:
    """Return a model; raises ModelNotFound with the nearest names."""
    if name not in catalogue.names():
        return model_out(session, registry.get(session, name))
    facts = catalogue.get(name)
    if facts.weights is None:
        raise ModelNotFound(f"nobody publishes ImageNet weights for {name}", param="model")
    return imagenet_out(facts)
