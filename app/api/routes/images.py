"""`/datasets/{id}/versions/{n}/images`: look at the images themselves."""

from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api import suspects
from app.api.deps import ServiceHere, Store, ThisVersion, Who
from app.api.manifests import image_pieces
from app.api.openapi import bytes_answer
from app.api.pagination import Paging
from app.api.thumbnails import content_type
from app.asgi.disconnect import unless_gone
from app.asgi.etag import TaggedRoute
from topwork import types
from topwork.types.datasets import SHA256

router = APIRouter(
    prefix="/datasets/{dataset_id}/versions/{number}/images",
    tags=["Datasets"],
    route_class=TaggedRoute,
)
Sha256 = Annotated[str, Path(pattern=SHA256)]
ClassName = Annotated[str | None, Query(alias="class", max_length=200)]
Finding = Annotated[
    str | None,
    Query(
        max_length=100,
        examples=["exif_rotated"],
        description="A finding of the version; or `label_suspect`, `outlier`: what the evaluation"
        " of a model suspects, the worst first.",
    ),
]
Judge = Annotated[
    str | None,
    Query(
        max_length=200,
        examples=["pets@1"],
        description="Whose evaluation names suspects; by default that of the newest model"
        " trained on the dataset.",
    ),
]
After = Annotated[str | None, Query(pattern=SHA256, description="Cursor: `last_id` of a page.")]
Many = Annotated[int, Query(ge=1, le=1000)]
JPEG = "image/jpeg"
# Content never changes under its hash.
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


@router.get("")
def list_images(
    version: ThisVersion,
    service: ServiceHere,
    pager: Paging,
    who: Who,
    *,
    class_name: ClassName = None,
    split: types.Split | None = None,
    finding: Finding = None,
    model: Judge = None,
    after: After = None,
    limit: Many = 100,
) -> types.Page[types.Image]:
    """List the images of a version by path, or its suspects by score."""
    wanted = {"class": class_name, "split": split, "finding": finding}
    asked = suspects.Asked(wanted, model, limit, after)
    return pager.page(*suspects.page_of(service, who, version, asked), key="sha256")


@router.get("/{sha256}/content", response_class=Response, responses=bytes_answer("image/*"))
def get_image_content(
    sha256: Sha256, version: ThisVersion, service: ServiceHere, storage: Store
) -> Response:
    """Return an image's own bytes, as a download."""
    line = service.manifests.of(version).line(sha256)
    pieces = image_pieces(storage, line, service.resources.settings.data_dir)
    first = next(pieces, b"")  # What is missing is known before the answer begins.
    kind = content_type(first)
    headers = {
        "Content-Disposition": f'attachment; filename="{sha256}.{kind.rpartition("/")[2]}"',
        "Content-Length": str(line["length"]),
        "ETag": f'"{sha256}"',
        **FOREVER,
    }
    return StreamingResponse(chain((first,), pieces), media_type=kind, headers=headers)


@router.get("/{sha256}/thumbnail", response_class=Response, responses=bytes_answer(JPEG))
async def get_image_thumbnail(
    request: Request,
    sha256: Sha256,
    version: ThisVersion,
    service: ServiceHere,
    size: Annotated[int, Query(ge=16, le=1024, description="Longest side in pixels.")] = 160,
) -> Response:
    """Return a small upright JPEG, encoded anew: no byte of the upload reaches the browser."""
    data = await unless_gone(request, service.thumbnails.of(version, sha256, size))
    return Response(data, media_type=JPEG, headers=FOREVER)
