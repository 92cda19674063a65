"""The id of a request: given by its client or made here, and the same in every process's log."""

import re

from starlette.datastructures import Headers
from starlette.types import Scope

from core.system.ids import new_id

HEADER = "X-Request-Id"
GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")


def name(scope: Scope) -> str:
    """Return the id of a request and leave it in the request's state."""
    given = Headers(scope=scope).get(HEADER, "")
    request_id = given if GIVEN.fullmatch(given) else new_id("req")
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id
