"""From a row to its shape, where the two have most names in common."""

from typing import Any, TypeVar

from pydantic import BaseModel

Shape = TypeVar("Shape", bound=BaseModel)


def shaped(shape: type[Shape], row: object, **other: Any) -> Shape:
    """Return a shape with a row's attributes of the same name and, first of all, `other` values.

    Every row has an attribute `metadata`, its table's: a shape with such a field has it in `other`.
    """
    same = {
        name: getattr(row, name)
        for name in shape.model_fields.keys() - other.keys()
        if hasattr(row, name)
    }
    return shape.model_validate(same | other)
