"""`/models`: names, descriptions and aliases of published classifiers."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Response
from sqlalchemy.orm import Session

from app.api import model_list
from app.api.deps import Config, Read, ServiceHere, Text, Write
from app.api.pagination import NameListing
from app.api.views.models import model_view
from app.asgi.etag import IfMatch, TaggedRoute, expect, tag_of
from core.domain import registry
from core.ops import garbage
from topwork import types
from topwork.errors import ModelNotFound
from topwork.types.models import ALIAS

router = APIRouter(prefix="/models", tags=["Models"], route_class=TaggedRoute)
Alias = Annotated[str, Path(pattern=ALIAS)]


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
    """Forget a model with all versions, aliases and files."""
    prefixes = registry.delete(session, name)
    later.add_task(garbage.discard, service.resources, prefixes=prefixes)


@router.get("/{name}/aliases/{alias}")
async def get_alias(name: Text, alias: Alias, read: Read, response: Response) -> types.Alias:
    """Return where an alias points; its ETag guards against lost updates."""
    await read(registry.get, name)
    return await read(_alias_out, name, alias, response)


@router.put("/{name}/aliases/{alias}")
def set_alias(
    name: Text, alias: Alias, body: types.AliasRequest, session: Write, response: Response,
    if_match: IfMatch = None,
) -> types.Alias:  # fmt: skip
    """Point an alias to a version, whether or not it existed."""
    registry.get(session, name, lock=True)
    expect(if_match, _tag(session, name, alias))
    registry.set_alias(session, name=name, alias=alias, number=body.version)
    return _alias_out(session, name, alias, response)


@router.delete("/{name}/aliases/{alias}", status_code=204)
def delete_alias(name: Text, alias: Alias, session: Write, if_match: IfMatch = None) -> None:
    """Remove an alias; the version stays."""
    registry.get(session, name, lock=True)
    expect(if_match, _tag(session, name, alias))
    registry.delete_alias(session, name=name, alias=alias)


def _alias_out(session: Session, name: str, alias: str, response: Response) -> types.Alias:
    number = registry.aliases(session, name).get(alias)
    if number is None:
        raise ModelNotFound(f"{name!r} has no alias {alias!r}", param="alias")
    response.headers["ETag"] = f'"{number}"'
    return types.Alias(model=name, alias=alias, version=number)


def _tag(session: Session, name: str, alias: str) -> str | None:
    number = registry.aliases(session, name).get(alias)
    return None if number is None else f'"{number}"'
