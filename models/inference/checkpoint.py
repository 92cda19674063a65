"""Make a bundle of another program's checkpoint, on the machine of whoever has it.

`python -P -m models.inference.checkpoint` is the child process of `topwork models import`. A pickle
is read here, with torch's `weights_only`, and never by a service.
"""

import json
import sys
import tempfile
from pathlib import Path

from core.system import json_child
from models.inference import artefact
from models.inference.preprocess import Preprocess
from models.networks import head, zoo
from models.planning import catalogue
from models.weights import bundle, checkpoint_file
from models.weights.pretrained import canonical


def make(file: Path, architecture: str, classes: list[str], target: Path) -> None:
    """Check a checkpoint with a head of its own against its network, and write the bundle.

    Its images are prepared as the network's published weights want it.

    Args:
        file: A .pth, .pt or .safetensors file.
        architecture: Of the catalogue.
        classes: Names in the order of the outputs.
        target: Where the bundle goes.

    Raises:
        ArchitectureUnknown: There is no network of this name.
        WeightsMismatch: The file is not readable, not of this network with as many outputs, or has
            non-finite numbers.
    """
    name = catalogue.canonical(architecture)
    state, digest = checkpoint_file.read(file)
    # Heads that only training uses are there or not, as whoever trained it had them.
    parts = [f"{entry.module}." for entry in catalogue.get(name).auxiliary]
    auxiliary = any(part in tensor for tensor in state for part in parts)
    values = canonical(name, state, len(classes), auxiliary=auxiliary)
    model = zoo.build(name, len(classes), pretrained_state=values)
    heads = head.find(zoo.shell(name, auxiliary=auxiliary))
    card = {
        "architecture": name,
        "classes": classes,
        "head": {"layers": [heads.main], "auxiliary": list(heads.auxiliary)},
        "preprocess": Preprocess.for_architecture(name).to_dict(),
        "lineage": {"weights": "checkpoint", "sha256": digest},
    }
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        folder = Path(place)
        full = artefact.write(folder, model, card)
        bundle.pack(target, artefact.text_of(full), folder / artefact.WEIGHTS)


def main() -> None:
    """Make one, and say nothing, or the error; the names of its classes are a file of JSON."""
    file, architecture, names, target = sys.argv[1:]
    classes = json.loads(Path(names).read_text(encoding="utf-8"))
    json_child.answer(lambda: make(Path(file), architecture, classes, Path(target)))


if __name__ == "__main__":
    main()
