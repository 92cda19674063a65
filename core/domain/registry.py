"""Published models: names and versions.

Names are unique in the whole service and belong to whoever published under them first.
"""

import difflib
from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError as DuplicateRow
from sqlalchemy.orm import Session

from core.store.pagination import page_of
from core.store.row_access import EVERYONE, owner_of
from core.store.tables import Alias, AliasMove, Job, Model, ModelCounter, ModelExport, ModelVersion
from topwork.errors import ModelInUse, ModelNotFound, NameTaken
from topwork.kinds import TERMINAL, JobKind, Product


def publish(
    session: Session,
    *,
    name: str,
    job_id: str | None,
    digest: str,
    prefix: str,
    files: dict[str, Any],
    card: dict[str, Any],
) -> ModelVersion:
    """Add the next version of a model; the commit around it is the publication.

    Raises:
        NameTaken: The model is not of the job's owner.
    """
    owner = session.get_one(Job, job_id).owner if job_id else owner_of(session)
    model = session.get(Model, name, with_for_update=True, execution_options=EVERYONE)
    if model is None:
        model = _create(session, name, owner)
    if model.owner != owner:
        raise NameTaken(f"the model name {name!r} belongs to somebody else", param="name")
    number = _next_number(session, name)
    version = ModelVersion(
        name=name,
        number=number,
        job_id=job_id,
        digest=digest,
        prefix=prefix,
        files=files,
        card=card,
    )
    session.add(version)
    session.flush()
    return version


def _create(session: Session, name: str, owner: str) -> Model:
    """Return a new model, or the one that somebody else has published first meanwhile."""
    try:
        with session.begin_nested():
            session.add(Model(name=name, owner=owner))
    except DuplicateRow:
        return session.get_one(Model, name, with_for_update=True, execution_options=EVERYONE)
    return session.get_one(Model, name)


def _next_number(session: Session, name: str) -> int:
    """Count on where a deleted model of this name ended: `pets@1` never means two artefacts."""
    counter = session.get(ModelCounter, name, with_for_update=True)
    if counter is None:
        counter = ModelCounter(name=name, last_number=0)
        session.add(counter)
    counter.last_number += 1
    return counter.last_number


def check_name(session: Session, name: str) -> None:
    """Refuse a name under which the session's caller could not publish.

    Raises:
        NameTaken: It is another owner's model, or a job of another owner is about to make it so.
    """
    owner = owner_of(session)
    models = select(Model.name).where(Model.name == name, Model.owner != owner)
    jobs = select(Job.id).where(
        Job.kind.in_(JobKind.making(Product.MODEL_VERSION)),
        Job.state.not_in(TERMINAL),
        Job.owner != owner,
        Job.config["name"].as_string() == name,
    )
    for taken in (models, jobs):
        if session.execute(taken.limit(1), execution_options=EVERYONE).first() is not None:
            raise NameTaken(f"the model name {name!r} belongs to somebody else", param="name")


def default_name(session: Session, stem: str, dataset_id: str | None) -> str:
    """Return the name of a model that is not named: another one where other data have it.

    Files are called `archive.zip` the world over, and a model that knows cats must not become one
    that knows roses because of that.

    Args:
        session: As the caller sees the database.
        stem: Made from the name of the dataset.
        dataset_id: The dataset; None for one that is not there yet.
    """
    kinds = JobKind.making(Product.MODEL_VERSION)
    under_way = Job.kind.in_(kinds), Job.state.not_in(TERMINAL)
    job_name = Job.config["name"].as_string()
    trained_on = ModelVersion.card["dataset"]["id"].as_string()
    taken: set[str] = set()
    for named, data, *where in (
        (ModelVersion.name, trained_on),
        (job_name, Job.dataset_id, *under_way),
    ):
        alike = or_(named == stem, named.startswith(f"{stem}-", autoescape=True))
        rows = select(named, data).where(alike, *where).distinct()
        found = session.execute(rows, execution_options=EVERYONE)
        taken |= {name for name, used in found if dataset_id is None or used != dataset_id}
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def get(session: Session, name: str, *, lock: bool = False) -> Model:
    """Return a model by name, or raise ModelNotFound with the nearest names.

    `lock` holds its row until the commit.
    """
    model = session.get(Model, name, with_for_update=lock, populate_existing=lock)
    if model is None:
        near = difflib.get_close_matches(name, session.scalars(select(Model.name)), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "GET /models lists them."
        raise ModelNotFound(f"there is no model {name!r}", param="model", hint=hint)
    return model


def versions(session: Session, name: str) -> list[ModelVersion]:
    """Return all versions of a model, newest first."""
    of_name = select(ModelVersion).where(ModelVersion.name == name)
    return list(session.scalars(of_name.order_by(ModelVersion.number.desc())))


def version(session: Session, name: str, number: int) -> ModelVersion:
    """Return one version, or raise ModelNotFound."""
    get(session, name)
    wanted = select(ModelVersion).where(ModelVersion.name == name, ModelVersion.number == number)
    found = session.scalars(wanted).one_or_none()
    if found is None:
        raise ModelNotFound(f"{name!r} has no version {number}", param="model")
    return found


def resolve(session: Session, reference: str) -> ModelVersion:
    """Return the version that `name`, `name@3` or `name@alias` means.

    A bare name means its newest version.

    Raises:
        ModelNotFound: No such name, version or alias.
    """
    name, _, pointer = reference.partition("@")
    get(session, name)
    if pointer.isdecimal():
        return version(session, name, int(pointer))
    if pointer:
        alias = session.get(Alias, (name, pointer))
        if alias is None:
            raise ModelNotFound(f"{name!r} has no alias {pointer!r}", param="model")
        return version(session, name, alias.number)
    newest = select(ModelVersion).where(ModelVersion.name == name)
    found = session.scalars(newest.order_by(ModelVersion.number.desc()).limit(1)).first()
    if found is None:
        raise ModelNotFound(f"{name!r} has no version left", param="model")
    return found


def newest_with(session: Session, file: str, dataset_id: str, number: int) -> ModelVersion | None:
    """Return the newest version trained on a dataset that has a file of this name.

    One that was trained on the version of this number comes before those of others.
    """
    trained_on = ModelVersion.card["dataset"]
    exactly = trained_on["version"].as_integer() == number
    wanted = (
        select(ModelVersion)
        .join(Model, Model.name == ModelVersion.name)  # Whose rows are the caller's.
        .where(trained_on["id"].as_string() == dataset_id)
        .where(ModelVersion.files[file]["sha256"].as_string().is_not(None))
        .order_by(exactly.desc(), ModelVersion.created_at.desc(), ModelVersion.id.desc())
    )
    return session.scalars(wanted.limit(1)).first()


def page(
    session: Session, *, limit: int = 20, after: str | None = None, order: str = "asc"
) -> tuple[list[Model], bool]:
    """Return up to `limit` models by name beyond the cursor and whether there are more."""
    return page_of(session, select(Model), Model.name, limit=limit, after=after, order=order)


def delete(session: Session, name: str) -> list[str]:
    """Remove a model with all versions and exports; returns their storage prefixes.

    Raises:
        ModelInUse: An alias points to a version of it.
    """
    model = get(session, name, lock=True)  # A worker may be about to publish a version of it.
    _check_unused(session, name, select(Alias).where(Alias.name == name))
    found = versions(session, name)
    prefixes = [row.prefix for row in found]
    prefixes += _delete_exports(session, [row.id for row in found])
    session.execute(sql_delete(AliasMove).where(AliasMove.name == name))
    session.execute(sql_delete(ModelVersion).where(ModelVersion.name == name))
    session.delete(model)
    return prefixes


def delete_version(session: Session, name: str, number: int) -> list[str]:
    """Remove one version with its exports; returns their prefixes. Its number is not given again.

    Raises:
        ModelNotFound: There is no such version.
        ModelInUse: An alias points to it.
    """
    get(session, name, lock=True)
    row = version(session, name, number)
    pointing = select(Alias).where(Alias.name == name, Alias.number == number)
    _check_unused(session, f"{name}@{number}", pointing)
    prefixes = [row.prefix, *_delete_exports(session, [row.id])]
    session.delete(row)
    return prefixes


def _delete_exports(session: Session, version_ids: Collection[str]) -> Sequence[str]:
    """Remove the exports of versions; returns their storage prefixes."""
    exported = ModelExport.version_id.in_(version_ids)
    prefixes = session.scalars(select(ModelExport.prefix).where(exported)).all()
    session.execute(sql_delete(ModelExport).where(exported))
    return prefixes


def _check_unused(session: Session, what: str, pointing: Select[Alias]) -> None:
    names = [row.alias for row in session.scalars(pointing.order_by(Alias.alias))]
    if names:
        raise ModelInUse(f"{what} is what {', '.join(names)} points to", param="name")
