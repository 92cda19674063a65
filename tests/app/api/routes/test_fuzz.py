"""Every operation of the document with made-up input: never a 5xx, always a problem."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.api.main import create_app
from core.store.tables import Dataset
from core.system.settings import Settings
from tests.app.apiclient import local_client

OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in create_app(Settings()).openapi()["paths"].items()
    for method, operation in operations.items()
    if path != "/readyz"
]
TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", ".", "..", "0", "-1", "1", "9" * 30, "1e9", "nan", "null", "true", "%", "%00", "\x00",
         "a@b", "@", "pets@1", "*", "'--", "../../etc/passwd", "<script>", "\u202e", "\ud800"]
    ),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def requests(draw: st.DrawFn, dataset_id: str) -> dict[str, Any]:
    method, path, operation = draw(st.sampled_from(OPERATIONS))
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    for parameter in operation.get("parameters", []):
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            known = st.just(dataset_id if name == "dataset_id" else "1")
            value = draw(st.one_of(known, TEXT))
            path = path.replace(f"{{{name}}}", quote(value, safe="", errors="surrogatepass"))
        elif place == "query" and draw(st.booleans()):
            query[name] = draw(TEXT).encode("utf-8", "replace").decode()
        elif place == "header" and draw(st.booleans()):
            headers[name] = draw(st.text('abc 0*,"@', max_size=10)).strip()
    request = {"method": method, "url": path, "params": query, "headers": headers}
    kinds = list(operation.get("requestBody", {}).get("content", {}))
    if kinds:
        request |= draw(_bodies(operation, draw(st.sampled_from(kinds))))
    return request


def _bodies(operation: dict[str, Any], kind: str) -> st.SearchStrategy[dict[str, Any]]:
    raw = st.binary(max_size=200).map(lambda data: {"content": data})
    if kind == "application/json":
        schema = operation["requestBody"]["content"][kind]["schema"]["$ref"].rpartition("/")[2]
        fields = {"FinetuneRequest": ["dataset", "architecture", "hyperparameters", "name", "seed"],
                  "PredictRequest": ["images", "model", "top_k"]}  # fmt: skip
        names = st.sampled_from([*fields.get(schema, ["name", "version", "metadata"]), "x"])
        shaped = st.dictionaries(names, JSON, max_size=4) | JSON
        return shaped.map(lambda body: {"content": json.dumps(body)}) | raw
    if kind == "multipart/form-data":
        files = st.dictionaries(st.sampled_from(["file", "x"]), st.binary(max_size=50), max_size=2)
        fields_ = st.dictionaries(
            st.sampled_from(["config", "name", "model", "top_k"]), st.text(max_size=9), max_size=2
        )
        return st.tuples(files, fields_).map(lambda both: {"files": both[0], "data": both[1]}) | raw
    return raw


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, migrated: Any) -> Any:
    import shutil  # noqa: PLC0415 - next to its use.

    from core.store.resources import open_resources  # noqa: PLC0415 - next to its use.
    from tests.app.apiclient import publish_dataset  # noqa: PLC0415 - next to its use.

    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copy(migrated, folder / "topwork.db")
    config = Settings(data_dir=folder, offline=True, predict_wait_seconds=0)
    with open_resources(config) as resources:
        dataset = publish_dataset(resources, folder / "pets")
    with local_client(create_app(config), raise_server_exceptions=False) as client:
        yield client, dataset


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_input_makes_a_5xx(fuzzed: tuple[TestClient, Dataset], data: st.DataObject) -> None:
    client, dataset = fuzzed
    request = data.draw(requests(dataset.id))
    if request["method"] == "DELETE" and "/datasets/" in request["url"]:
        return  # The dataset is needed again.
    answer = client.request(**request)
    allowed = (503,) if request["url"] == "/predict" else ()
    assert answer.status_code < 500 or answer.status_code in allowed, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["code"]
        assert problem["detail"]
