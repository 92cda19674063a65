"""Which output of a network a class name of the data means."""

from collections import Counter
from collections.abc import Mapping, Sequence

from models.inference.classifier import Label


def outputs(labels: Sequence[Label]) -> Mapping[str, int]:
    """Return output by name, and for ImageNet's by WordNet id as well.

    A name that two outputs share means neither: two pairs of ImageNet's do.
    """
    times = Counter(label.name for label in labels)
    named = {label.name: n for n, label in enumerate(labels) if times[label.name] == 1}
    return named | {label.wordnet_id: n for n, label in enumerate(labels) if label.wordnet_id}
