from dataclasses import asdict

import pytest
from torchvision import models as torchvision_models

from models.networks import facts
from models.planning import catalogue

# One of each kind of builder; the rest differ in size only.
SAMPLE = (
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_resnet_v1",
    "inception_v3",
    "lenet",
    "maxvit_t",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "squeezenet1_1",
    "swin_v2_t",
    "vit_b_32",
)


def test_every_classifier_of_torchvision_is_in_the_catalogue() -> None:
    assert list(catalogue.names()) == facts.names()
    theirs = set(torchvision_models.list_models(module=torchvision_models))
    assert len(theirs) >= 80
    assert theirs < set(catalogue.names())


@pytest.mark.parametrize("name", SAMPLE)
def test_the_file_says_what_the_network_measures(name: str) -> None:
    assert facts.measure(name) == catalogue.get(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_the_file_says_what_every_network_measures(name: str) -> None:
    assert facts.measure(name) == catalogue.get(name)


def test_the_published_presets_are_the_file_s() -> None:
    for name in torchvision_models.list_models(module=torchvision_models):
        weights = torchvision_models.get_model_weights(name).DEFAULT
        entry = asdict(catalogue.get(name))
        transform = weights.transforms()
        assert entry["weights"]["url"] == weights.url
        assert [entry["input_size"]] == transform.crop_size
        assert [entry["resize"]] == transform.resize_size
        assert list(entry["mean"]) == transform.mean
        assert list(entry["std"]) == transform.std
        assert entry["interpolation"] == transform.interpolation.value
        labels = [label for _, label in catalogue.imagenet()]
        assert weights.meta["categories"] == labels
