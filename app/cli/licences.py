"""`topwork licences`: under which terms what is installed, and published weights, may be used."""

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions

from app.terminal.output import Terminal, local, table
from models.planning import catalogue

OF_THE_CODE = "none of their own; torchvision's code is BSD-3-Clause"
UNSTATED = "not stated"
LONGEST = 60  # Some packages have the whole text where its name belongs.


@local
def licences(terminal: Terminal) -> None:
    """List the licences of the packages in this environment and of pretrained weights."""
    rows = [*_packages(), *_weights()]
    terminal.show(
        [dict(zip(("kind", "name", "version", "licence"), row, strict=True)) for row in rows],
        lambda: table(("", "name", "version", "licence"), rows),
    )


def _packages() -> Iterator[tuple[str, str, str, str]]:
    found: dict[str, Distribution] = {}
    for one in distributions():
        for name in one.metadata.get_all("Name") or []:  # What was half removed has none.
            found.setdefault(name.lower(), one)  # Python imports the first of two.
    for name, one in sorted(found.items()):
        yield "package", name, one.version, licence_of(one)


def _weights() -> Iterator[tuple[str, str, str, str]]:
    for name in catalogue.names():
        weights = catalogue.get(name).weights
        if weights:
            yield "weights", name, weights.preset, weights.license or OF_THE_CODE


def licence_of(package: Distribution) -> str:
    """Return a licence: the expression (PEP 639), else what the classifiers or the field say."""
    about = package.metadata
    if expression := about.get_all("License-Expression"):
        return str(expression[0])
    classifiers = [line.rpartition(" :: ") for line in about.get_all("Classifier") or []]
    names = [name for kind, _, name in classifiers if kind.split(" :: ")[0] == "License"]
    fields = about.get_all("License") or [""]
    field = str(fields[0]).strip().partition("\n")[0][:LONGEST]
    return ", ".join(names) or field or UNSTATED
