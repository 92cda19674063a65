"""Descriptions of fields from the docstrings below them, read when the API document is made.

Pydantic can do this while it builds each class, but then it searches source files at every start
of the api: a quarter of the whole import.
"""

import ast
import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any


def add_descriptions(schemas: dict[str, dict[str, Any]], modules: Iterable[ModuleType]) -> None:
    """Write the docstrings of the modules' fields into the JSON schemas of their classes."""
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef) and node.name in schemas:
                properties = schemas[node.name].get("properties", {})
                for name, text in _described(node):
                    if name in properties:
                        properties[name].setdefault("description", text)


def _described(node: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for pair in zip(node.body, node.body[1:], strict=False):
        match pair:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
