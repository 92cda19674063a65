"""`POST /predict`: which class is in these images?"""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.api import explaining, prediction
from app.api.deps import Read, ServiceHere, Who
from app.api.explaining import ExplainClass
from app.api.openapi import images_body
from app.api.prediction import Images
from app.asgi.request_body import StrictRequest, StrictRoute
from core.system.ids import new_id
from topwork import types
from topwork.kinds import ExplainMode
from topwork.types.predictions import EXPLAIN, EXPLAIN_OVERLAY, MODEL, TOP_K
from topwork.types.values import REJECT

router = APIRouter(tags=["Predict"], route_class=StrictRoute)
ModelQuery = Annotated[str | None, Query(min_length=1, max_length=200, description=MODEL)]
TopK = Annotated[int | None, Query(ge=1, le=1000, description=TOP_K)]
Reject = Annotated[types.Reject | None, Query(description=REJECT)]
ExplainQuery = Annotated[ExplainMode | None, Query(description=EXPLAIN)]
ExplainOverlay = Annotated[bool | None, Query(description=EXPLAIN_OVERLAY)]
Asked = tuple[Images, types.PredictFields]


async def _explained(
    explain: ExplainQuery = None,
    explain_class: ExplainClass = None,
    explain_overlay: ExplainOverlay = None,
) -> dict[str, Any]:
    return {
        "explain": explain,
        "explain_class": explain_class,
        "explain_overlay": explain_overlay,
    }


async def _asked(
    request: Request,
    service: ServiceHere,
    who: Who,
    explained: Annotated[dict[str, Any], Depends(_explained)],
    model: ModelQuery = None,
    top_k: TopK = None,
    reject: Reject = None,
) -> AsyncIterator[Asked]:
    assert isinstance(request, StrictRequest)  # noqa: S101 - made so by the route class.
    query = {"model": model, "top_k": top_k, "reject": reject, **explained}
    given = {name: value for name, value in query.items() if value is not None}
    service.admission.check(who.owner)
    with service.admission.body(who.owner) as held:
        asked = await prediction.read(request, service.resources.settings, given, held)
        with service.admission.one(who.owner):
            yield asked


@router.post("/predict", openapi_extra=images_body())
async def predict(
    request: Request,
    asked: Annotated[Asked, Depends(_asked)],
    service: ServiceHere,
    read: Read,
    who: Who,
) -> types.Prediction:
    """Classify images with an own model, or with an ImageNet one under its architecture's name.

    One bad image does not spoil the others: each has its own status. The answer is 422 only when
    every image is bad.
    """
    started = time.monotonic()
    images, fields = asked
    reference = fields.model or service.resources.settings.default_model
    found = await read(prediction.resolve, reference)
    answer = await explaining.answered(request, service, found, images, fields, who)
    results = prediction.check_some(answer["results"])
    timing = {**answer["timing_ms"], "total": round((time.monotonic() - started) * 1000, 2)}
    return types.Prediction.model_validate(
        {
            "id": new_id("pr"),
            "model": {**(answer.get("model") or {}), **found.facts},
            "results": results,
            "timing_ms": timing,
        }
    )
