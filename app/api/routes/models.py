"""`/models`: names, descriptions and aliases of published classifiers."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Response

from app.api import model_list
from app.api.deps import Config, Read, Store, Text, ThisModel, Write
from app.api.model_list import Source
from app.api.schemas.lists import NameListing, Page
from app.api.schemas.models import ALIAS, AliasOut, AliasRequest, ModelOut, ModelPatch, model_out
from app.asgi.etag import IfMatch, TaggedRoute, expect, tag_of
from core.domain import registry
from topwork.errors import ModelNotFound

router = APIRouter(prefix="/models", tags=["Models"], route_class=TaggedRoute)
Alias = Annotated[str, Path(pattern=ALIAS)]


@router.get("")
def list_models(
    session: Read, cursor: NameListing, settings: Config, source: Source | None = None
) -> Page[ModelOut]:
    """List the models that can predict now: own ones, and ImageNet ones whose weights are here."""
    models, has_more = model_list.page(
        session, settings.weights_dir, limit=cursor.limit, after=cursor.after,
        order=cursor.order, source=source,
    )  # fmt: skip
    return cursor.page(models, has_more, key="name")


@router.get("/{name}")
def get_model(name: Text, session: Read) -> ModelOut:
    """Return a model with its aliases."""
    return model_list.get(session, name)


@router.patch("/{name}")
def update_model(
    name: Text, patch: ModelPatch, session: Write, if_match: IfMatch = None
) -> ModelOut:
    """Describe a model or replace its metadata."""
    model = registry.get(session, name, lock=True)
    expect(if_match, tag_of(model_out(session, model)))
    if "description" in patch.model_fields_set:
        model.description = patch.description
    if patch.metadata is not None:
        model.user_metadata = patch.metadata
    return model_out(session, model)


@router.delete("/{name}", status_code=204)
def delete_model(name: Text, session: Write, storage: Store, later: BackgroundTasks) -> None:
    """Forget a model with all versions, aliases and files."""
    for prefix in registry.delete(session, name):
        later.add_task(storage.delete_prefix, prefix)


@router.get("/{name}/aliases/{alias}")
def get_alias(model: ThisModel, alias: Alias, session: Read, response: Response) -> AliasOut:
    """Return where an alias points; its ETag guards against lost updates."""
    return _alias_out(session, model.name, alias, response)


@router.put("/{name}/aliases/{alias}")
def set_alias(
    name: Text, alias: Alias, wanted: AliasRequest, session: Write, response: Response,
    if_match: IfMatch = None,
) -> AliasOut:  # fmt: skip
    """Point an alias to a version, whether or not it existed."""
    registry.get(session, name, lock=True)
    expect(if_match, _tag(session, name, alias))
    registry.set_alias(session, name=name, alias=alias, number=wanted.version)
    return _alias_out(session, name, alias, response)


@router.delete("/{name}/aliases/{alias}", status_code=204)
def delete_alias(name: Text, alias: Alias, session: Write, if_match: IfMatch = None) -> None:
    """Remove an alias; the version stays."""
    registry.get(session, name, lock=True)
    expect(if_match, _tag(session, name, alias))
    registry.delete_alias(session, name=name, alias=alias)


def _alias_out(session: Read, name: str, alias: str, response: Response) -> AliasOut:
    number = registry.aliases(session, name).get(alias)
    if number is None:
        raise ModelNotFound(f"{name!r} has no alias {alias!r}", param="alias")
    response.headers["ETag"] = f'"{number}"'
    return AliasOut(model=name, alias=alias, version=number)


def _tag(session: Read, name: str, alias: str) -> str | None:
    number = registry.aliases(session, name).get(alias)
    return None if number is None else f'"{number}"'
