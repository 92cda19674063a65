"""Complete answers of a service, as its shapes describe them."""

from typing import Any

from topwork import types

JOB: dict[str, Any] = {
    **types.Job.model_json_schema()["examples"][0],
    "id": "job_1",
    "state": "queued",
    "phase": None,
}
EVENT = {"seq": 1, "kind": "note", "at": "2026-11-22T09:30:00.000Z", "data": {}}
PREDICTION: dict[str, Any] = types.Prediction.model_json_schema()["examples"][0]
RESULT: dict[str, Any] = PREDICTION["results"][0]
MODEL: dict[str, Any] = {
    "name": "pets", "object": "model", "source": "own", "architecture": "lenet",
    "description": None, "metadata": {}, "latest": 3, "metrics": {}, "aliases": {"production": 3},
    "owner": "anna", "created_at": "2026-11-22T09:30:00.000Z", "links": {"self": "/models/pets"},
}  # fmt: skip
MEASURED: dict[str, dict[str, Any]] = {
    "evaluation": {"object": "evaluation", "splits": {"val": {"images": 8, "accuracy": 0.875}}},
    "calibration": {"object": "calibration", "calibration": None, "splits": {"val": None}},
    "errors": {"object": "errors", "splits": {"val": []}},
}
