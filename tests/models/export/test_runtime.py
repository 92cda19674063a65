"""Nothing is told to the makers of ONNX Runtime."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from models.export import pixels
from models.compute.onnx_runtime import open_session
from models.inference.preprocess import Preprocess
open_session(pixels.graph(Preprocess.for_architecture("lenet")).SerializeToString())
"""


def test_no_session_of_telemetry_is_begun(tmp_path: Path) -> None:
    """Where it reports, it keeps the number of its session in the folder for temporary files."""
    environment = {key: value for key, value in os.environ.items() if key[:4] != "ORT_"}
    environment["TMPDIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
