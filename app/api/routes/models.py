"""`/models`: names and descriptions of published classifiers."""

from fastapi import APIRouter, BackgroundTasks

from app.api import model_list
from app.api.comparing import Compared
from app.api.deps import Config, Read, ServiceHere, Text, Write
from app.api.pagination import NameListing
from app.api.views.models import model_view
from app.asgi.etag import IfMatch, TaggedRoute, expect, tag_of
from core.domain import registry
from core.ops import garbage
from topwork import types

router = APIRouter(prefix="/models", tags=["Models"], route_class=TaggedRoute)


@router.get("")
async def list_models(
    read: Read, cursor: NameListing, settings: Config, source: types.ModelSource | None = None
) -> types.Page[types.Model]:
    """List the models that can predict now: own ones, and ImageNet ones whose weights are here."""
    models, has_more = await read(
        model_list.page, settings.weights_dir, limit=cursor.limit, after=cursor.after,
        order=cursor.order, source=source,
    )  # fmt: skip
    return cursor.page(models, has_more, key="name")


@router.get("/{name}")
async def get_model(name: Text, read: Read) -> types.Model:
    """Return a model with its aliases."""
    return await read(model_list.get, name)


@router.get("/{name}/compare")
def compare_versions(compared: Compared) -> types.Comparison:
    """Say per class what gets better and worse from one version to another, on the same images."""
    return compared


@router.patch("/{name}")
def update_model(
    name: Text, patch: types.ModelPatch, session: Write, if_match: IfMatch = None
) -> types.Model:
    """Describe a model or replace its metadata."""
    model = registry.get(session, name, lock=True)
    expect(if_match, tag_of(model_view(session, model)))
    if "description" in patch.model_fields_set:
        model.description = patch.description
    if patch.metadata is not None:
        model.user_metadata = patch.metadata
    return model_view(session, model)


@router.delete("/{name}", status_code=204)
def delete_model(name: Text, session: Write, service: ServiceHere, later: BackgroundTasks) -> None:
    """Forget a model to which no alias points, with all versions and files."""
    prefixes = registry.delete(session, name)
    later.add_task(garbage.discard, service.resources, prefixes=prefixes)
