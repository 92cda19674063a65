"""A model as one ONNX file: an image of any size in, calibrated probabilities and a label out."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import compose, helper, numpy_helper, parser
from PIL import Image
from torch import Tensor, nn

from models.compute.onnx_runtime import open_session
from models.export import pixels
from models.export.forms import Answer, Answers, Exported, metadata
from models.inference import artefact, rejection_file
from models.inference.calibration import mixing, stated
from models.inference.preprocess import Preprocess
from models.inference.rejection import Rejection
from models.networks.head import with_features

NAME = "model.onnx"
OPSET = 20
BATCH = 2  # The size that the exporter sees; one would be taken for a constant.

# As `models.inference.calibration.calibrated`: float64, and the first of equal probabilities wins.
_ANSWER = """
<ir_version: 10, opset_import: ["" : 20]>
answer (float[batch, {classes}] logits, string[{classes}] classes{more_inputs}) => (
    float[{classes}] probabilities, string label{more_outputs}
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
    {more}
}}
"""

# As `models.inference.rejection`: the mean cosine to the nearest references, and two thresholds.
_REJECTION = """
    last = Constant <value_ints = [1]> ()
    squares = Mul (features, features)
    sums = ReduceSum <keepdims = 1> (squares, last)
    norms = Sqrt (sums)
    least_norm = Constant <value = float {{1e-12}}> ()
    lengths = Max (norms, least_norm)
    unit = Div (features, lengths)
    columns = Transpose <perm = [1, 0]> (references)
    cosines = MatMul (unit, columns)
    count = Constant <value_ints = [{neighbours}]> ()
    nearest, places = TopK <axis = 1> (cosines, count)
    exact_nearest = Cast <to = 11> (nearest)
    means = ReduceMean <keepdims = 0> (exact_nearest, last)
    exact_similarity = Squeeze (means, front)
    similarity = Cast <to = 1> (exact_similarity)
    confidence = ReduceMax <keepdims = 0> (shares, front)
    first = Constant <value_int = 0> ()
    second = Constant <value_int = 1> ()
    least_similarity = Gather (thresholds, first)
    least_confidence = Gather (thresholds, second)
    is_unknown = Less (exact_similarity, least_similarity)
    is_unsure = Less (confidence, least_confidence)
    is_neither = Or (is_unknown, is_unsure)
    accept = Constant <value_string = "accept"> ()
    abstain = Constant <value_string = "abstain"> ()
    decision = Where (is_neither, abstain, accept)
    nothing = Constant <value_string = ""> ()
    unknown = Constant <value_string = "unknown"> ()
    unsure = Constant <value_string = "unsure"> ()
    less_sure = Where (is_unsure, unsure, nothing)
    reason = Where (is_unknown, unknown, less_sure)
"""


def write(folder: Path, model: Exported) -> Path:
    """Write `model.onnx` and return its path.

    Its input `image` is uint8 (height, width, 3), an upright RGB image. `probabilities` is float32
    (classes,), `label` a string. Labels and origin are in the metadata, weights within the file.

    A model that can abstain also gives `similarity` (float32), `decision` and `reason` (strings).
    Its input `thresholds`, float64 (2,), least similarity and confidence, has the card's values
    where it is left out.
    """
    card = model.card
    preprocess = Preprocess.from_dict(card["preprocess"])
    rejection = rejection_file.read(model.files, card)
    layer = artefact.heads(model.network, card).main
    abstains = isinstance(rejection, Rejection)
    whole = _network(
        _Featured(model.network, layer) if abstains else model.network,
        preprocess.crop,
        ["logits", "features"] if abstains else ["logits"],
    )
    keep = {"rename_inputs": False, "rename_outputs": False}
    front = compose.add_prefix(pixels.graph(preprocess), "pixels.", **keep).graph
    answer = parser.parse_model(_answer(card, rejection))
    back = compose.add_prefix(answer, "answer.", **keep).graph
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
    if isinstance(rejection, Rejection):
        usual = np.array([rejection.usual.similarity, rejection.usual.confidence])
        references = numpy_helper.from_array(rejection.references, "references")
        whole.graph.initializer.extend([references, numpy_helper.from_array(usual, "thresholds")])
        whole.graph.input.extend(value for value in back.input if value.name == "thresholds")
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

    outputs = [output.name for output in session.get_outputs()]

    def answer(image: Image.Image) -> Answer:
        values = session.run(outputs, {"image": np.asarray(image)})
        found = dict(zip(outputs, values, strict=True))
        label, reason = str(found["label"]), str(found.get("reason", "")) or None
        if label not in classes:
            raise ValueError(f"The file answers {label!r}, which is none of its classes.")
        return Answer(label, found["probabilities"].astype(np.float64), reason)

    return answer


class _Featured(nn.Module):
    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return with_features(self.network, self.layer, images)


def _answer(card: dict[str, Any], rejection: Rejection | str) -> str:
    temperature, ceiling = stated(card)
    classes = len(card["classes"])
    factor, summand = mixing(classes, ceiling)
    numbers = {
        "classes": classes,
        "temperature": temperature,
        "factor": factor,
        "summand": summand,
    }
    if isinstance(rejection, str):
        return _ANSWER.format(**numbers, more_inputs="", more_outputs="", more="")
    count, width = rejection.references.shape
    inputs = f"float[batch, {width}] features, float[{count}, {width}] references"
    return _ANSWER.format(
        **numbers,
        more_inputs=f", {inputs}, double[2] thresholds",
        more_outputs=", float similarity, string decision, string reason",
        more=_REJECTION.format(neighbours=rejection.neighbours),
    )


def _network(model: nn.Module, side: int, outputs: list[str]) -> onnx.ModelProto:
    """Return the network alone: `input`, float32 (batch, 3, side, side), to its outputs."""
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
            output_names=outputs,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("The exporter returned nothing.")
    proto: onnx.ModelProto = program.model_proto
    return proto
