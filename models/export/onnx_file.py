"""A model as one ONNX file: an image of any size in, calibrated probabilities and a label out."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, helper, parser
from PIL import Image
from torch import nn

from models.compute.onnx_runtime import open_session
from models.export import pixels
from models.export.forms import Answers, Exported, metadata
from models.inference.calibration import mixing, stated
from models.inference.preprocess import Preprocess

NAME = "model.onnx"
OPSET = 20
BATCH = 2  # The size that the exporter sees; one would be taken for a constant.

# As `models.inference.calibration.calibrated`: float64, and the first of equal probabilities wins.
_ANSWER = """
<ir_version: 10, opset_import: ["" : 20]>
answer (float[batch, {classes}] logits, string[{classes}] classes) => (
    float[{classes}] probabilities, string label
)
{{
    exact = Cast <to = 11> (logits)
    temperature = Constant <value = double {{{temperature:.17g}}}> ()
    factor = Constant <value = double {{{factor:.17g}}}> ()
    summand = Constant <value = double {{{summand:.17g}}}> ()
    divided = Div (exact, temperature)
    plain = Softmax <axis = -1> (divided)
    scaled = Mul (plain, factor)
    batch = Add (scaled, summand)
    front = Constant <value_ints = [0]> ()
    shares = Squeeze (batch, front)
    probabilities = Cast <to = 1> (shares)
    best = ArgMax <axis = 0, keepdims = 0> (shares)
    label = Gather (classes, best)
}}
"""


def write(folder: Path, model: Exported) -> Path:
    """Write `model.onnx` and return its path.

    Its input `image` is uint8 (height, width, 3), an upright RGB image. `probabilities` is float32
    (classes,), `label` a string. Labels and origin are in the metadata, weights within the file.
    """
    card = model.card
    preprocess = Preprocess.from_dict(card["preprocess"])
    whole = _network(model.network, preprocess.crop)
    front = compose.add_prefix(
        pixels.graph(preprocess), "pixels.", rename_inputs=False, rename_outputs=False
    ).graph
    back = compose.add_prefix(
        parser.parse_model(_answer(card)), "answer.", rename_inputs=False, rename_outputs=False
    ).graph
    # Only nodes move: the weights, which may be half a gigabyte, stay where they are.
    between = list(whole.graph.node)
    del whole.graph.node[:], whole.graph.input[:], whole.graph.output[:], whole.graph.value_info[:]
    whole.graph.node.extend(node for node in front.node if "crop" not in node.output)
    whole.graph.node.extend([*between, *back.node])
    whole.graph.input.extend(front.input)
    whole.graph.output.extend(back.output)
    names = [label.encode() for label in card["classes"]]
    labels = helper.make_tensor("classes", onnx.TensorProto.STRING, [len(names)], names)
    whole.graph.initializer.append(labels)
    whole.producer_name, whole.graph.name = "topwork", "classifier"
    helper.set_model_props(whole, metadata(model))
    path = folder / NAME
    onnx.save(whole, path)
    onnx.checker.check_model(path)
    return path


def answers(path: Path) -> Answers:
    """Return what asks the file, in ONNX Runtime on the CPU."""
    session = open_session(path)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])

    def answer(image: Image.Image) -> tuple[str, NDArray[np.float64]]:
        probabilities, label = session.run(["probabilities", "label"], {"image": np.asarray(image)})
        if str(label) not in classes:
            raise ValueError(f"The file answers {label!r}, which is none of its classes.")
        return str(label), probabilities.astype(np.float64)

    return answer


def _answer(card: dict[str, Any]) -> str:
    temperature, ceiling = stated(card)
    classes = len(card["classes"])
    factor, summand = mixing(classes, ceiling)
    return _ANSWER.format(classes=classes, temperature=temperature, factor=factor, summand=summand)


def _network(model: nn.Module, side: int) -> onnx.ModelProto:
    """Return the network alone: `input`, float32 (batch, 3, side, side), to `logits`."""
    example = torch.zeros(BATCH, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter's own code uses what is deprecated.
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
            verbose=False,
        )
    if program is None:
        raise RuntimeError("The exporter returned nothing.")
    proto: onnx.ModelProto = program.model_proto
    return proto
