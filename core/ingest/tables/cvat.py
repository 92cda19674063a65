"""The tags of images in the XML of CVAT ("CVAT for images 1.1", docs.cvat.ai) (pure)."""

from typing import Any
from xml.parsers import expat

from core.ingest.tables.annotations import Row

MAX_DEPTH = 50


def rows(data: bytes) -> list[Row] | None:
    """Return (file, labels, split) of each image; None where the document is not CVAT's.

    A document that declares its own type could expand without end, so it is not read.

    Raises:
        ValueError: The document is broken, or declares a type.
    """
    found: list[Row] = []
    open_elements: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        open_elements.append(name)
        if len(open_elements) > MAX_DEPTH:
            message = "it is nested too deep"
            raise ValueError(message)
        if name == "image" and "name" in attributes:
            found.append((attributes["name"], [], attributes.get("subset", "")))
        elif name == "tag" and found and "image" in open_elements:
            found[-1][1].append(attributes.get("label"))

    def end(_: str) -> None:
        open_elements.pop()

    def doctype(*_: Any) -> None:
        message = "it declares a document type"
        raise ValueError(message)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)  # noqa: FBT003 - the C function takes no keyword.
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return found if any(labels for _, labels, _ in found) else None
