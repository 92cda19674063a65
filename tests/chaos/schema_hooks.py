"""What Schemathesis has to be told about `/uploads`; its configuration loads this module.

Pieces are plain bytes of another name. Two of its checks err here: a header that nobody knows is
ignored, as RFC 9110 wants (it spares such requests itself, but takes a number in a header for a
violation); and an upload that was deleted is not there, also when a repeated request with the same
`Idempotency-Key` was answered with its creation once more.
"""

from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation.meta import CoverageScenario
from schemathesis.openapi.checks import EnsureResourceAvailability

from app.api.uploads.tus import PIECE

schemathesis.serializer.alias(PIECE, "application/octet-stream")
replayed: set[str] = set()


@schemathesis.hook
def after_call(
    _context: schemathesis.HookContext, _case: schemathesis.Case[Any], response: Response
) -> None:
    """Remember which answers were repetitions."""
    if response.status_code == 201 and "idempotent-replayed" in response.headers:
        replayed.add(response.json()["id"])


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    _response: Response,
) -> bool:
    """Return whether it is one."""
    if isinstance(failure, EnsureResourceAvailability):
        return case.path_parameters.get("upload_id") not in replayed
    return not (isinstance(failure, AcceptedNegativeData) and _only_unknown_headers(case))


def _only_unknown_headers(case: schemathesis.Case[Any]) -> bool:
    data = case.meta and case.meta.phase.data  # Of which phase it is of depends what it has.
    return (
        getattr(data, "scenario", None) is CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES
        and getattr(data, "parameter_location", None) is ParameterLocation.HEADER
    )
