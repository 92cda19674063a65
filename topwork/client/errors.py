"""What a call can raise: the service's own error classes, found again by their code.

`topwork.errors.TopworkError` is the root, so `except ModelNotFound` means the same on both sides.
"""

from typing import Any

import httpx2

from topwork.errors import TopworkError, from_dict


def from_response(response: httpx2.Response) -> TopworkError:
    """Return the error that a problem+json answer describes, with its `request_id` and `errors`."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem: dict[str, Any] = {
        "code": f"http_{response.status_code}",
        "message": response.reason_phrase,
        "request_id": response.headers.get("x-request-id"),
        **(body if isinstance(body, dict) else {}),
        "status": response.status_code,
    }
    return from_dict({**problem, "message": problem.get("detail") or problem["message"]})
