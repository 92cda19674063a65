"""`topwork licences` names the terms of every package and of all pretrained weights."""

import json
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import program
from app.cli.licences import licence_of
from models.planning import catalogue


def test_every_package_and_all_weights_have_terms_that_a_company_can_accept() -> None:
    rows = json.loads(CliRunner().invoke(program, ["licences", "--json"]).stdout)
    licences = {(row["kind"], row["name"]): row["licence"] for row in rows}
    assert licences["package", "celery"] == "BSD-3-Clause"
    published = {name for name in catalogue.names() if catalogue.get(name).weights}
    assert {name for kind, name in licences if kind == "weights"} == published
    assert "SWAG" in licences["weights", "regnet_y_128gf"]
    forbidden = ("affero", "agpl", "non-commercial", "noncommercial", "not stated")
    found = {name: terms for (_, name), terms in licences.items() if name != "cuda-toolkit"}
    assert [one for one in found.items() if any(word in one[1].lower() for word in forbidden)] == []


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ("License-Expression: MIT\nLicense: other", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: x", "BSD License"),
        ("Classifier: License :: A\nClassifier: License :: B\nClassifier: Topic :: C", "A, B"),
        ("License: Apache 2.0\n        Version 2.0, January 2004", "Apache 2.0"),
        ("Summary: nothing", "not stated"),
    ],
)
def test_where_a_package_may_say_it(tmp_path: Path, lines: str, licence: str) -> None:
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: one\nVersion: 1\n{lines}\n")
    assert licence_of(Distribution.at(tmp_path)) == licence
