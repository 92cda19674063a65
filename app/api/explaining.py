"""Heat maps on their way to the predictor: which class is asked for, and of which images."""

from typing import Annotated, Any

import anyio.to_thread
from fastapi import Query
from starlette.requests import Request

from app.api import prediction
from app.api.manifests import image_bytes
from app.api.prediction import Images, Resolved
from app.api.reading import Reader
from app.api.state import Service
from app.asgi.memory_budget import LEAST
from app.asgi.problem import nearest
from app.predictor_protocol import Explain
from core.domain import datasets
from core.store.row_access import Caller
from core.store.tables import DatasetVersion
from models.planning import catalogue, heatmaps
from topwork import types
from topwork.errors import HeatmapUnsupported, InvalidField, NotFound
from topwork.types.predictions import EXPLAIN_CLASS

FIELD = "explain_class"
ExplainClass = Annotated[
    str | None, Query(min_length=1, max_length=1000, description=EXPLAIN_CLASS)
]


def wanted(fields: types.PredictFields, model: Resolved) -> Explain | None:
    """Return what a request wants explained; None where it asks for nothing of the kind.

    Raises:
        InvalidField: The model has no such class, or it is named without `explain`.
        HeatmapUnsupported: The model has no heat maps.
    """
    if fields.explain is None:
        if fields.explain_class is not None or fields.explain_overlay:
            param = FIELD if fields.explain_class is not None else "explain_overlay"
            hint = "Send `explain=heatmap` with it."
            raise InvalidField("nothing is to be explained", param=param, hint=hint)
        return None
    facts, card = model.facts, model.card
    why = heatmaps.unavailable(card) if card else heatmaps.unsupported(facts["architecture"])
    if why is not None:
        raise HeatmapUnsupported(f"{facts['name']} has no heat maps: {why}", param="explain")
    index = None if fields.explain_class is None else _index(fields.explain_class, card)
    return Explain(index=index, overlay=fields.explain_overlay)


def _index(name: str, card: dict[str, Any]) -> int:
    """Return the output of the network that has this label, or this WordNet id."""
    pairs = [(label, label) for label in card["classes"]] if card else catalogue.imagenet()
    found = next((index for index, pair in enumerate(pairs) if name in pair), None)
    if found is None:
        hint = nearest(name, [label for _, label in pairs])
        hint = hint or "The answer to `top_k=1000` without `explain` names the classes."
        raise InvalidField("the model has no such class", param=FIELD, hint=hint)
    return found


async def answered(
    request: Request,
    service: Service,
    model: Resolved,
    images: Images,
    fields: types.PredictFields,
    who: Caller,
) -> dict[str, Any]:
    """Return the predictor's answer, with the heat maps that a request asks for.

    Raises:
        TopworkError: As of `wanted` and `prediction.forward`.
    """
    return await prediction.forward(
        request, service.predictor, model.model, images, fields, who.owner, wanted(fields, model)
    )


async def of_evaluated(
    request: Request,
    service: Service,
    read: Reader,
    who: Caller,
    version: str,
    sha256: str,
    fields: types.PredictFields,
) -> dict[str, Any]:
    """Return the heat map of an image of the dataset version that a model was trained on.

    Args:
        request: Which may be given up meanwhile.
        service: With the predictor.
        read: Of rows that the caller may see.
        who: The caller.
        version: `name@number` of the model.
        sha256: Of the image.
        fields: What is to be explained.

    Raises:
        NotFound: The model was trained elsewhere, the images are gone, or there is no such one.
    """
    model = await read(prediction.resolve, version)
    wanted(fields, model)  # Before an image is looked for.
    origin = model.card.get("dataset") or {}
    if not (origin.get("id") and origin.get("version")):
        raise NotFound("the images that this model was trained on are not here", param="sha256")
    trained_on = await read(datasets.version, f"{origin['id']}@{origin['version']}")
    with service.admission.one(who.owner), service.admission.body(who.owner) as held:
        data = await anyio.to_thread.run_sync(_bytes, service, trained_on, sha256)
        held.hold(max(LEAST, 2 * len(data)))
        images = Images(1, names=[""], data=[data])
        answer = await answered(request, service, model, images, fields, who)
    return dict(prediction.check_some(answer["results"])[0]["heatmap"])


def _bytes(service: Service, version: DatasetVersion, sha256: str) -> bytes:
    line = service.manifests.of(version).line(sha256)
    return image_bytes(service.resources.storage, line)
