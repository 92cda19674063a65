"""ONNX Runtime, which is told before it is loaded to report nothing to its makers.

Its Linux builds hold code that sends events to `mobile.events.data.microsoft.com`, and leave a file
for them unless `ORT_DISABLE_TELEMETRY` is set when the library is loaded; a call of
`disable_telemetry_events` does not stop that. Whatever here needs ONNX Runtime imports this module.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # The variable is read when the library is loaded.

_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_ERRORS = 3  # Of its log; warnings are about what it optimises.


def open_session(
    model: Path | bytes,
    *,
    threads: int = 0,
    weights: Mapping[str, NDArray[Any]] | None = None,
) -> onnxruntime.InferenceSession:
    """Return a session on the CPU for a file or its content.

    Threads that wait sleep: those that spin take the cores from whatever else runs on them. Memory
    of a pass goes back to the system after it, so that one large batch does not stay for ever.

    Args:
        model: The file, or the bytes of one.
        threads: Of one pass; 0 leaves their number to the library.
        weights: By name, what a model given as bytes keeps outside of itself.

    Raises:
        RuntimeError: It is no model that the library can run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    if isinstance(
        model, bytes
    ):  # It reads no file: what it keeps outside of itself is in `weights`.
        options.add_session_config_entry(_EXTERNAL_FOLDER, os.devnull)
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its classes have no common one but this.
        raise RuntimeError(f"ONNX Runtime cannot load this model: {error}") from error
