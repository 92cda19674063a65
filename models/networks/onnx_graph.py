"""A network as an ONNX graph without its weights, for ONNX Runtime to serve it without torch.

The graph names each parameter as a part of the safetensors file beside it, so that a model has its
weights on disk once, and whoever loads it can hash them first. It is made at publication, in the
training job. torch's exporter by tracing is on its way out, but takes a twentieth of the time of
the one that follows it, needs no values, and keeps each parameter's name; what it makes is compared
with the network itself before anything is served by it.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import StringStringEntryProto, TensorProto
from torch import Tensor, nn

from models.networks import weights_file
from models.networks.head import with_features, with_maps
from models.networks.weights_file import COUNTER, Slot
from models.planning.heatmaps import MapLayer

OPSET = 20
OUTPUTS = ("logits", "features", "maps")
"""The last one only of networks whose maps explain answers."""
_TYPES = {"F32": TensorProto.FLOAT, "I64": TensorProto.INT64}  # All that trained models hold.
BATCH = 2  # The size that the exporter sees; one would be taken for a constant.
_NETWORK = "network."  # Before the names of its parameters within `_Served`.


class _Served(nn.Module):
    """What the predictor does behind the crop."""

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        mean: Sequence[float],
        std: Sequence[float],
        source: MapLayer | None,
    ) -> None:
        super().__init__()
        self.network, self.layer, self.mean, self.std = network, layer, mean, std
        self.source = source

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        mean, std = torch.tensor([self.mean, self.std]).view(2, 1, 3, 1, 1)
        images = (crops.to(torch.float32) / 255 - mean) / std
        if self.source is None:
            return with_features(self.network, self.layer, images)
        return with_maps(self.network, self.layer, self.source, images)


def made(
    network: nn.Module,
    layer: str,
    side: int,
    mean: Sequence[float],
    std: Sequence[float],
    weights: Path,
    source: MapLayer | None = None,
) -> bytes:
    """Return the graph: `crops`, uint8 (n, 3, side, side), to `logits`, `features` and `maps`.

    Logits are float32 (n, classes), features float32 (n, d), maps float32 (n, k, h, w).

    Args:
        network: In eval mode, on the CPU.
        layer: Name of the layer that decides the classes.
        side: Of its input, in pixels.
        mean: Of samples in 0..1, for each channel.
        std: Likewise.
        weights: The safetensors file that holds its values; the graph belongs beside it.
        source: The layer that gives the maps; without one there are none.

    Raises:
        RuntimeError: The network cannot be traced, or has a value that is not in the file.
    """
    try:
        served = _Served(network, layer, mean, std, source).eval()
        graph = _traced(served, side, OUTPUTS if source else OUTPUTS[:-1])
    except Exception as error:  # The exporter raises what it meets.
        raise RuntimeError(f"The network cannot be traced: {error}") from error
    slots, start = weights_file.layout(weights)
    slots = [slot for slot in slots if not slot.name.endswith(COUNTER)]
    names = {slot.name for slot in slots}
    foreign = {value.name.removeprefix(_NETWORK) for value in graph.graph.input[1:]} - names
    if foreign:
        raise RuntimeError(f"The file lacks {min(foreign)}, which the graph asks for.")
    del graph.graph.input[1:]
    for slot in slots:
        graph.graph.initializer.append(_stored(slot, start, weights.name))
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    for node in nodes:
        for used in (node.input, node.output):
            used[:] = [name.removeprefix(_NETWORK) for name in used]
        # Of equal values the exporter keeps one, and makes the others of it.
        if not (node.op_type == "Identity" and names.issuperset(node.output)):
            graph.graph.node.append(node)
    graph.producer_name, graph.graph.name = "topwork", "classifier"
    return bytes(graph.SerializeToString(deterministic=True))


def _stored(slot: Slot, start: int, file: str) -> TensorProto:
    """Return a value that is a part of the file."""
    where = {"location": file, "offset": start + slot.begin, "length": slot.end - slot.begin}
    return TensorProto(
        name=slot.name,
        dims=slot.shape,
        data_type=_TYPES[slot.dtype],
        data_location=TensorProto.EXTERNAL,
        external_data=[
            StringStringEntryProto(key=key, value=str(value)) for key, value in where.items()
        ],
    )


def _traced(served: nn.Module, side: int, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the graph as the exporter writes it: parameters are inputs behind the images."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says that it is on its way out.
        torch.onnx.export(
            served,
            (torch.zeros(BATCH, 3, side, side, dtype=torch.uint8),),
            buffer,  # type: ignore[arg-type]  # The exporter by tracing writes to it.
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
            # The network is in eval mode; asked for that mode, the exporter changes parameters.
            training=torch.onnx.TrainingMode.PRESERVE,
            opset_version=OPSET,
            input_names=["crops"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "images"} for name in ("crops", *outputs)},
        )
    return onnx.load_model_from_string(buffer.getvalue())
