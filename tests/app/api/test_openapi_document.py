"""The OpenAPI document says of everything what it is, by words and by an example that is valid."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.api.main import create_app
from app.api.openapi_document import FAILURES
from core.system.settings import Settings

Node = dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("data"))).openapi()


def operations(document: Node) -> Iterator[tuple[str, Node]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def bodies(document: Node) -> Iterator[tuple[str, Node]]:
    """Yield every body that an operation may answer with, references followed."""
    for where, operation in operations(document):
        for status, answer in operation["responses"].items():
            name = answer.get("$ref", "").removeprefix("#/components/responses/")
            whole = document["components"]["responses"][name] if name else answer
            assert len(whole["description"]) > 5, f"{where} {status}"
            assert whole["description"] != "Successful Response", f"{where} {status}"
            for kind, body in whole.get("content", {}).items():
                yield f"{where} {status} {kind}", body


def test_every_operation_says_what_it_does_and_how_it_fails(document: Node) -> None:
    for where, operation in operations(document):
        assert " ".join(operation["description"].split()).startswith(operation["summary"]), where
        assert operation["summary"].count(" ") > 1, f"{where}: this is the name of a function"
        assert not operation["summary"].endswith("."), where
        assert operation["tags"], where
        problem = operation["responses"]["4XX"]["content"]["application/problem+json"]
        assert problem["schema"]["$ref"].endswith("/Problem"), where
        named = {status for status in operation["responses"] if status in FAILURES}
        assert len(named) >= 4 or where in ("get /healthz", "get /readyz"), where
        assert "404" in named or ("{" not in where and "requestBody" not in operation), where


def test_every_schema_and_every_field_is_described_and_has_an_example(document: Node) -> None:
    schemas = document["components"]["schemas"]
    assert len(schemas) > 120
    for name, schema in schemas.items():
        assert schema["description"], name
        assert schema["examples"], name
        for field, about in schema.get("properties", {}).items():
            assert about["description"], f"{name}.{field}"
            shown = "$ref" in about or "const" in about or about["examples"][0] is not None
            assert shown, f"{name}.{field} has no example: add one to app.api.openapi_examples"


def test_every_parameter_is_described(document: Node) -> None:
    for where, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter["description"], f"{where} {parameter['name']}"


def test_every_example_is_valid(document: Node) -> None:
    components = document["components"]
    pairs = [
        (f"{name}.{field}", about, example)
        for name, schema in components["schemas"].items()
        for field, about in [("", schema), *schema.get("properties", {}).items()]
        for example in about.get("examples", [])
    ]
    pairs += [(where, body["schema"], body["example"]) for where, body in bodies(document)
              if "example" in body]  # fmt: skip
    assert len(pairs) > 700
    for where, schema, example in pairs:
        validator = Draft202012Validator({**schema, "components": components})
        assert [error.message for error in validator.iter_errors(example)] == [], where


def test_every_answer_has_an_example(document: Node) -> None:
    for where, body in bodies(document):
        schema = body["schema"]
        assert "$ref" in schema or "example" in body or schema.get("format") == "binary", where


def test_no_field_has_a_default_that_generators_cannot_write(document: Node) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, about in schema.get("properties", {}).items():
            assert not isinstance(about.get("default"), dict) or about["default"] == {}, (
                f"{name}.{field}"
            )
    for where, operation in operations(document):
        for parameter in operation.get("parameters", []):
            constant = parameter["in"] == "header" and "const" in parameter["schema"]
            assert not constant, f"{where} {parameter['name']}"
