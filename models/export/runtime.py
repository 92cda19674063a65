"""ONNX Runtime, which is told before it is loaded to report nothing to its makers.

Its Linux builds hold code that sends events to `mobile.events.data.microsoft.com`, and leave a file
for them unless `ORT_DISABLE_TELEMETRY` is set when the library is loaded; a call of
`disable_telemetry_events` does not stop that. Whatever here needs ONNX Runtime imports this module.
"""

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # The variable is read when the library is loaded.


def open_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """Return a session on the CPU for a file or its content."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
