"""What all answers and requests share: open words, fields of tomorrow, bounded bodies."""

import json
import subprocess
import sys
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from topwork import types
from topwork.kinds import JobState, Scope
from topwork.types.values import Answer, Body, Open

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Leaf(Answer):
    state: Open[JobState]
    word: str = Field("x", alias="for")


class Tree(Answer):
    leaf: Leaf
    leaves: list[Leaf]
    named: dict[str, Leaf]
    maybe: Leaf | None = None


@settings(deadline=None)
@given(st.text())
def test_a_word_in_an_answer_is_its_member_or_itself(word: str) -> None:
    state = Leaf.model_validate({"state": word}).state
    assert state == word
    assert isinstance(state, JobState) == (word in list(JobState))
    with warnings.catch_warnings(action="error"):
        assert Leaf(state=state).model_dump(mode="json")["state"] == word


@pytest.mark.parametrize("value", [1, None, ["queued"], {"queued": 1}])
def test_what_is_no_word_is_refused_in_an_answer_too(value: Any) -> None:
    with pytest.raises(ValidationError):
        Leaf.model_validate({"state": value})


def test_words_of_a_request_are_closed() -> None:
    with pytest.raises(ValidationError):
        types.ApiKeyRequest.model_validate({"scopes": ["fly"]})
    assert types.ApiKeyRequest.model_validate({"scopes": ["train"]}).scopes == [Scope.TRAIN]


def test_the_schema_of_an_open_word_names_the_known_ones() -> None:
    schema = Leaf.model_json_schema()
    assert schema["properties"]["state"] == {"$ref": "#/$defs/JobState"}
    assert schema["$defs"]["JobState"]["enum"] == list(JobState)


@settings(deadline=None)
@given(JSON, JSON)
def test_fields_of_tomorrow_are_kept_wherever_they_are(first: Any, second: Any) -> None:
    leaf = {"state": "queued", "for": "y", "tomorrow": first}
    said = {
        "leaf": leaf, "leaves": [leaf, leaf], "named": {"a": leaf}, "maybe": leaf, "new": second
    }  # fmt: skip
    tree = Tree.model_validate(said, extra="allow")
    assert json.loads(json.dumps(tree.to_dict())) == said
    assert tree.named["a"].tomorrow == first  # type: ignore[attr-defined] # Of tomorrow.


def test_a_body_far_too_large_is_one_error() -> None:
    class Small(Body):
        name: str = ""

    with pytest.raises(ValidationError) as caught:
        Small.model_validate({str(number): number for number in range(1000)})
    (error,) = caught.value.errors()
    assert error["type"] == "too_many_fields"


def test_every_shape_is_found_by_its_name_alone_and_nothing_else_is() -> None:
    script = (
        "import sys; from topwork import types; assert 'pydantic' not in sys.modules;"
        "types.JobState; assert 'pydantic' not in sys.modules;"
        "from topwork.types.jobs import Job; assert types.Job is Job; types.Page[Job];"
        "assert not hasattr(types, 'Nothing'); assert not hasattr(types, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
