"""Networks of every family, each trained for a step, answer in an ONNX file as the service does.

On the 153 validation photographs of hymenoptera where they lie beside the repository, on made
images elsewhere; from published weights where those are there. A line for each network is printed.
"""

import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from core.imaging.decode import OpenImage
from core.system.run_dir import RunDir
from models.data.dataset import ACCEPTED
from models.export import onnx_file, parity
from models.export.forms import Exported
from models.inference import artefact
from models.inference.classifier import Classifier
from models.inference.eager import Eager
from models.inference.preprocess import Preprocess
from models.networks import head, zoo
from models.networks.head import logits_of
from models.weights import local_weights

SHARED = Path("../shared")
PHOTOGRAPHS, WEIGHTS = SHARED / "data/hymenoptera.zip", SHARED / "weights"
CLASSES = ["ants", "bees"]
STEP = 4  # Images of the one training step.
NETWORKS = (
    "alexnet", "vgg13", "resnet18", "mobilenet_v2", "squeezenet1_1", "googlenet", "inception_v3",
    "densenet121", "efficientnet_b0", "swin_t", "vit_b_16",
    "lenet", "nin", "alexnet_lrn", "inception_resnet_v1",
)  # fmt: skip


def images(preprocess: Preprocess) -> Iterator[parity.Named]:
    if not PHOTOGRAPHS.exists():
        yield from parity.made()
        return
    with zipfile.ZipFile(PHOTOGRAPHS) as archive:
        for name in archive.namelist():
            if "/val/" in f"/{name}" and name.endswith(".jpg"):
                opened = OpenImage(archive.read(name), ACCEPTED)
                yield name, opened.rgb(shrink_to=preprocess.resize)


def trained(architecture: str, preprocess: Preprocess) -> torch.nn.Module:
    """Build a network for two classes and take one step with all of its weights."""
    torch.manual_seed(7)
    published = local_weights.find(WEIGHTS, architecture)
    model = zoo.build(
        architecture, pretrained_state=published.path if published else None, auxiliary=False
    )
    head.replace(model, len(CLASSES))
    crops = torch.randint(0, 256, (STEP, 3, preprocess.crop, preprocess.crop), dtype=torch.uint8)
    optimiser = torch.optim.SGD(model.train().parameters(), lr=0.001, momentum=0.9)
    logits, _ = logits_of(model(preprocess.normalise(crops)))
    cross_entropy(logits, torch.arange(STEP) % len(CLASSES)).backward()
    optimiser.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_label_is_that_of_the_service(architecture: str, tmp_path: Path) -> None:
    preprocess = Preprocess.for_architecture(architecture)
    card = {"architecture": architecture, "classes": CLASSES, "preprocess": preprocess.to_dict()}
    folder = tmp_path / "model"
    folder.mkdir()
    artefact.write(folder, trained(architecture, preprocess), card)
    model, card = artefact.load(folder)
    file = onnx_file.write(tmp_path, Exported(architecture, model, card, folder))
    run = RunDir(tmp_path)
    with closing(run.events):
        answers, classifier = onnx_file.answers(file), Classifier.of(card, Eager(model, preprocess))
        found = parity.compare(run, classifier, answers, images(preprocess))
    shutil.rmtree(folder)
    file.unlink()
    told = f"{found['alike']} of {found['images']} labels, {found['max_difference']:.1e}"
    sys.stdout.write(f"\n{architecture}: {told}\n")
    assert found["images"] in (153, 2 * len(parity.MADE))
    assert found["differing"] == []
    assert found["max_difference"] <= 1e-5
