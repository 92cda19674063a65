"""`/architectures`: what can be fine-tuned."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import Config, Text
from app.api.pagination import NameListing
from app.api.views.models import architecture_view
from app.asgi.etag import TaggedRoute
from core.system.settings import Settings
from models.planning import catalogue
from models.weights import local_weights
from topwork import types
from topwork.errors import ArchitectureNotFound, ArchitectureUnknown

router = APIRouter(prefix="/architectures", tags=["Architectures"], route_class=TaggedRoute)
Family = Annotated[str | None, Query(max_length=60, examples=["resnet"])]


@router.get("")
def list_architectures(
    cursor: NameListing, settings: Config, family: Family = None
) -> types.Page[types.Architecture]:
    """List the networks by name."""
    names = [name for name in catalogue.names() if family in (None, catalogue.get(name).family)]
    if cursor.after is not None:
        later = cursor.order == "asc"
        names = [n for n in names if (n > cursor.after if later else n < cursor.after)]
    names.sort(reverse=cursor.order == "desc")
    items = [_out(name, settings) for name in names[: cursor.limit]]
    return cursor.page(items, len(names) > cursor.limit, key="name")


@router.get("/{name}")
def get_architecture(name: Text, settings: Config) -> types.Architecture:
    """Return what goes in, what is replaced, and whether the weights are here."""
    try:
        return _out(catalogue.canonical(name), settings)
    except ArchitectureUnknown as error:
        raise ArchitectureNotFound(error.message, param="name", hint=error.hint) from None


def _out(name: str, settings: Settings) -> types.Architecture:
    facts = catalogue.get(name)
    here = local_weights.find(settings.weights_dir, name) is not None
    return architecture_view(facts, available=here, offline=settings.offline)
