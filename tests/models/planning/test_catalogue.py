import dataclasses
import itertools
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from models.planning import catalogue
from topwork.errors import ArchitectureUnknown

OWN = {"lenet", "nin", "alexnet_lrn", "inception_resnet_v1"}


def test_reading_loads_neither_torch_nor_numpy_nor_pillow() -> None:
    code = (
        "import sys, models.planning.catalogue as c; c.get('resnet18'); c.imagenet();"
        "print([m for m in ('torch', 'torchvision', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_sorted_and_hold_our_own() -> None:
    names = catalogue.names()
    assert list(names) == sorted(names)
    assert {name for name in names if catalogue.get(name).own} == OWN


def test_facts_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalogue.get("resnet18").head = "conv1"


@pytest.mark.parametrize("name", catalogue.names())
def test_facts_are_consistent(name: str) -> None:
    facts = catalogue.get(name)
    assert facts.name == name
    assert 1 <= facts.min_size <= facts.input_size <= facts.resize
    assert not facts.fixed_size or facts.min_size == facts.input_size
    assert facts.interpolation in {"bilinear", "bicubic"}
    assert facts.parameters > 10_000
    assert facts.paper.startswith("http")
    assert len(facts.mean) == len(facts.std) == 3
    assert len(facts.feature_shape) in {1, 3}
    if facts.own:
        assert facts.weights is None
    else:
        assert facts.weights is not None
        assert re.fullmatch(r"[0-9a-f]{8,64}", facts.weights.hash_prefix)
        assert facts.weights.file.endswith(f"-{facts.weights.hash_prefix}.pth")
        assert facts.weights.url == f"https://download.pytorch.org/models/{facts.weights.file}"
        assert 50 < facts.weights.top1 < facts.weights.top5 < 100


def test_published_facts() -> None:
    vgg = catalogue.get("vgg13")
    assert (vgg.parameters, vgg.input_size, vgg.resize) == (133_047_848, 224, 256)
    assert catalogue.get("inception_v3").input_size == 299
    assert [entry.weight for entry in catalogue.get("googlenet").auxiliary] == [0.3, 0.3]
    assert [entry.weight for entry in catalogue.get("inception_v3").auxiliary] == [0.4]
    with_auxiliary = [name for name in catalogue.names() if catalogue.get(name).auxiliary]
    assert with_auxiliary == ["googlenet", "inception_v3"]


def test_weights_under_another_licence_say_so() -> None:
    limited = {
        name
        for name in catalogue.names()
        if (weights := catalogue.get(name).weights) and weights.license
    }
    assert limited == {"regnet_y_128gf", "vit_h_14"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("resnet-18", "resnet18"), ("ResNet50", "resnet50"), ("mobilenetv2", "mobilenet_v2")],
)
def test_an_unknown_name_gets_a_suggestion(typed: str, meant: str) -> None:
    with pytest.raises(ArchitectureUnknown) as caught:
        catalogue.get(typed)
    assert caught.value.hint is not None
    assert meant in caught.value.hint
    assert caught.value.param == "architecture"


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(ArchitectureUnknown) as caught:
        catalogue.get("x" * 500)
    assert "/architectures" in str(caught.value.hint)
    assert len(caught.value.message) < 200


def test_imagenet_ids_are_the_thousand_in_their_defined_order() -> None:
    ids = [wordnet for wordnet, _ in catalogue.imagenet()]
    assert len(ids) == 1000
    assert all(re.fullmatch(r"n\d{8}", wordnet) for wordnet in ids)
    # Output i of every ImageNet network is the i-th id in ascending order.
    assert all(before < after for before, after in itertools.pairwise(ids))
    assert catalogue.imagenet()[0] == ("n01440764", "tench")
    assert catalogue.imagenet()[281] == ("n02123045", "tabby")
    assert catalogue.imagenet()[999] == ("n15075141", "toilet tissue")


def test_imagenet_ids_match_real_files(shared: Path) -> None:
    with zipfile.ZipFile(shared / "data" / "imagenet200.zip") as archive:
        names = [Path(name).stem for name in archive.namelist()]
    assert len(names) == 200
    for name in names:
        index, wordnet, label = name.split("_", 2)
        assert catalogue.imagenet()[int(index)] == (wordnet, label.replace("_", " "))


def test_spellings_of_people_are_understood() -> None:
    for spelled, meant in {
        "ResNet18": "resnet18",
        "resnet-18": "resnet18",
        "EfficientNet-B0": "efficientnet_b0",
        "Inception v3": "inception_v3",
        "VGG16.BN": "vgg16_bn",
        "RegNet-Y-1.6GF": "regnet_y_1_6gf",
        "regnet_y_16gf": "regnet_y_16gf",
        "RegNetY16GF": "RegNetY16GF",  # It could be one of 1.6 GF.
        "my-pets": "my-pets",
    }.items():
        assert catalogue.canonical(spelled) == meant
    assert all(catalogue.canonical(name) == name for name in catalogue.names())
