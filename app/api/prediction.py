"""`POST /predict` between the client and the predictor: read, resolve, forward, judge."""

import base64
import binascii
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio.to_thread
import httpx2
from sqlalchemy.orm import Session
from starlette.requests import Request

from app.api.predictor_client import PredictorClient
from app.asgi.disconnect import unless_gone
from app.asgi.memory_budget import LEAST, Body
from app.asgi.multipart import FILE, FORM, receive
from app.asgi.problem import nearest
from app.asgi.request_body import JSON, StrictRequest, decode, media_type, shaped_as, unsupported
from app.predictor_protocol import (
    HEADER,
    ArtefactModel,
    Explain,
    ImageNetModel,
    Order,
    PredictingModel,
    StoredFile,
)
from core.domain import registry
from core.ingest.archive import printable
from core.system.settings import Settings
from models.planning import catalogue, heatmaps, rejection
from topwork import types
from topwork.errors import (
    ImageUndecodable,
    InvalidField,
    MalformedRequest,
    ModelNotFound,
    PredictorBusy,
    PredictorUnavailable,
    RejectionUnavailable,
    RequestTooLarge,
    ServiceError,
    TopworkError,
    from_dict,
)
from topwork.kinds import ResultStatus

BASE64 = "Send the file's bytes in base64 (RFC 4648), alone or as a `data:` URL with `;base64,`."
DATA_URL_HEAD = 200  # Characters before its comma at most.
TO_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
LONGEST_NAME = 200
LONGEST_FIELD = 1000
MOST_FIELDS = 50


@dataclass
class Images:
    """What a request wants classified, as a sink for forms."""

    most: int
    fields: dict[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    _name: str = ""
    _is_file: bool = False
    _piece: bytearray = field(default_factory=bytearray)

    def add(self, name: str | None, data: bytes) -> None:
        """Take one image."""
        self.expect(len(self.data) + 1)
        self.names.append(printable(name or "")[:LONGEST_NAME])
        self.data.append(data)

    def expect(self, count: int) -> None:
        """Raise RequestTooLarge where so many images are too many."""
        if count > self.most:
            raise RequestTooLarge(f"send at most {self.most} images in one request")

    def begin(self, name: str, filename: str | None) -> None:
        """Start a part of a form."""
        self._is_file = filename is not None or name == FILE
        self._name, self._piece = filename or "" if self._is_file else name, bytearray()
        if self._is_file and name != FILE:
            message = f"images come in parts named `{FILE}`, not {printable(name)!r}"
            raise InvalidField(message, param=printable(name)[:LONGEST_NAME])

    def write(self, data: bytes) -> None:
        """Take the next piece of the part."""
        self._piece += data
        if not self._is_file and len(self._piece) > LONGEST_FIELD:
            raise RequestTooLarge(f"the form field {self._name!r} is too long")

    def end(self) -> None:
        """Finish the part."""
        if self._is_file:
            if self._name or self._piece:
                self.add(self._name, bytes(self._piece))
        elif self._name in self.fields:
            raise MalformedRequest("the form has this field twice", param=self._name)
        elif len(self.fields) >= MOST_FIELDS:
            raise MalformedRequest(f"the form has more than {MOST_FIELDS} fields")
        else:
            self.fields[self._name] = self._piece.decode("utf-8", "replace")
        self._piece = bytearray()  # Not held beside its copy until the answer is sent.


class Resolved(NamedTuple):
    """What a reference means.

    Args:
        model: For the predictor.
        facts: For the client.
        card: Of the version; empty for published weights.
    """

    model: PredictingModel
    facts: dict[str, Any]
    card: dict[str, Any]


async def read(
    request: StrictRequest, settings: Settings, query: dict[str, Any], held: Body
) -> tuple[Images, types.PredictFields]:
    """Read the images and the settings from any of the three kinds of body.

    Raises:
        UnsupportedMedia: It is none of them.
        RequestTooLarge: Too many bytes or images.
        TooManyRequests, PredictorBusy: There is no memory for so many bytes now.
    """
    images = Images(settings.max_predict_images)
    kind = media_type(request)
    # JSON is there as bytes, as text and as strings within; the others as pieces and as images.
    held.copies = 3 if kind == JSON else 2
    request.arrive = held.arrive
    if kind == FORM:
        parts = settings.max_predict_images + MOST_FIELDS + 1
        await receive(request, images, limit=settings.max_predict_bytes, parts=parts)
        given = shaped_as(types.PredictFields, images.fields)
    elif kind == JSON:
        # Base64 takes four bytes for three.
        raw = await request.taken(settings.max_predict_bytes * 4 // 3 + 65536)
        given = await anyio.to_thread.run_sync(_read_json, raw, images)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images.add(None, await request.taken(settings.max_predict_bytes))
        given = types.PredictFields()
    else:
        raise unsupported(request, FORM, "image/*", JSON)
    if not images.data:
        hint = "Send at least one part named `file`."
        raise MalformedRequest("the request carries no image", param="file", hint=hint)
    held.hold(max(LEAST, sum(len(data) for data in images.data)))
    return images, types.PredictFields.model_validate(query | given.model_dump(exclude_unset=True))


def _read_json(raw: bytes, images: Images) -> types.PredictFields:
    body = decode(raw)
    named = body.get("images") if isinstance(body, dict) else None
    if isinstance(named, list):  # Before each of too many is explained.
        images.expect(len(named))
    asked = shaped_as(types.PredictRequest, body)
    for index, image in enumerate(asked.images):
        try:
            images.add(image.filename, _from_base64(image.data))
        except (binascii.Error, ValueError):
            param = f"images.{index}.data"
            raise InvalidField("this is not base64", param=param, hint=BASE64) from None
    return types.PredictFields.model_validate(
        asked.model_dump(exclude={"images"}, exclude_unset=True)
    )


def _published(architecture: str) -> Resolved:
    """Return a network with the ImageNet weights that have been published for it."""
    if catalogue.get(architecture).weights is None:
        message = f"nobody publishes ImageNet weights for {architecture}"
        raise ModelNotFound(message, param="model", hint="Fine-tune it first: POST /finetune.")
    facts = {
        "name": architecture,
        "version": None,
        "architecture": architecture,
        "heatmap": heatmaps.unsupported(architecture) is None,
    }
    return Resolved(ImageNetModel(architecture=architecture), facts, {})


def _from_base64(text: str) -> bytes:
    """Return the bytes of either alphabet of RFC 4648, alone or as a `data:` URL (RFC 2397).

    Line breaks and missing padding do no harm.

    Raises:
        ValueError: It is not base64.
    """
    with contextlib.suppress(ValueError):  # As most are, and without a further copy.
        return base64.b64decode(text, validate=True)
    start = text[:DATA_URL_HEAD]
    if start.startswith("data:"):
        head, comma, _ = start.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError(head)
        text = text[len(head) + 1 :]
    raw = text.encode("ascii").translate(TO_STANDARD_ALPHABET, b" \t\r\n").rstrip(b"=")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)


def resolve(session: Session, reference: str) -> Resolved:
    """Return the model that a reference means.

    Raises:
        ModelNotFound: It is neither a model, version or alias nor an architecture.
    """
    if reference in catalogue.names():
        return _published(reference)
    try:
        version = registry.resolve(session, reference)
    except ModelNotFound as error:
        if (architecture := catalogue.canonical(reference)) in catalogue.names():
            return _published(architecture)
        models, _ = registry.page(session, limit=1000)
        known = [model.name for model in models] + list(catalogue.names())
        name = reference.partition("@")[0]
        hint = None if name in known else nearest(name, known)
        raise ModelNotFound(error.message, param="model", hint=hint or error.hint) from None
    facts = {
        "name": version.name,
        "version": version.number,
        "architecture": version.card.get("architecture"),
        "digest": f"sha256:{version.digest}",
        "heatmap": heatmaps.unavailable(version.card) is None,
    }
    files = {name: StoredFile.model_validate(file) for name, file in version.files.items()}
    model = ArtefactModel(prefix=version.prefix, digest=version.digest, files=files)
    return Resolved(model, facts, version.card)


def check_reject(reject: types.Reject, card: dict[str, Any]) -> None:
    """Raise RejectionUnavailable where a model cannot promise the share that is asked for."""
    if isinstance(reject, float) and (why := rejection.unavailable(card, reject)):
        raise RejectionUnavailable(f"the model cannot abstain: {why}", param="reject")


async def forward(
    request: Request,
    predictor: PredictorClient,
    model: PredictingModel,
    images: Images,
    fields: types.PredictFields,
    owner: str,
    explain: Explain | None,
) -> dict[str, Any]:
    """Return the predictor's answer to a request that has been read.

    Raises:
        ClientDisconnect: The client went away meanwhile.
        PredictorUnavailable: It is away, or went away twice meanwhile.
        PredictorBusy: Its queue is full.
        TooManyRequests: The owner has too many pixels in it.
    """
    sizes = [len(data) for data in images.data]
    asked = fields.model_dump(include={"top_k", "reject"})
    order = Order(
        model=model, sizes=sizes, filenames=images.names, owner=owner, explain=explain, **asked
    )
    headers = {
        HEADER: order.header(),
        "Content-Type": "application/octet-stream",
        "Content-Length": str(sum(sizes)),
    }
    try:
        asking = predictor.predict(headers, lambda: _given(images))
        answer = await unless_gone(request, asking)
        body = answer.json()
    except httpx2.TimeoutException as error:
        raise PredictorBusy("the predictor did not answer in time") from error
    except (httpx2.TransportError, ValueError) as error:
        raise PredictorUnavailable from error
    if answer.status_code == httpx2.codes.OK:
        return dict(body)
    named = _from_predictor(answer.status_code, body)
    after = answer.headers.get("Retry-After", "")
    named.retry_after = int(after) if after.isdecimal() else named.retry_after
    raise named


async def _given(images: Images) -> AsyncIterator[bytes]:
    """Yield the images end to end without a copy of them all."""
    for data in images.data:
        yield data


def _from_predictor(status: int, body: Any) -> TopworkError:
    """Return the error that the predictor named, or what one of unknown name means here."""
    named = from_dict(body) if isinstance(body, dict) and "code" in body else ServiceError()
    if not isinstance(named, ServiceError):
        return named
    return PredictorBusy() if status in (429, 503) else PredictorUnavailable()


def check_some(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results, unless every item is bad.

    Raises:
        TopworkError: The first item's error, with one entry for each item.
    """
    if any(item.get("status") == ResultStatus.OK for item in results):
        return results
    errors = [{"param": item.get("filename"), **item["error"]} for item in results]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    first = {**errors[0], "message": errors[0]["message"] + more, "param": "file"}
    raise from_dict({**first, "status": ImageUndecodable.status, "errors": errors})
