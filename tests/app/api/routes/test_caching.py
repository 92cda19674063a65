import pytest
from starlette.testclient import TestClient

from app.asgi.etag import matches
from core.store.resources import Resources
from core.store.tables import Dataset
from tests.app.apiclient import Work, publish_model


def test_what_one_has_is_not_sent_again(
    client: TestClient, dataset: Dataset, resources: Resources
) -> None:
    publish_model(resources)
    image = client.get(f"/datasets/{dataset.id}/versions/1/images").json()["first_id"]
    for path in (
        "/datasets",
        f"/datasets/{dataset.id}",
        f"/datasets/{dataset.id}/versions/1",
        f"/datasets/{dataset.id}/versions/1/images",
        f"/datasets/{dataset.id}/versions/1/images/{image}/thumbnail",
        "/models/pets",
        "/models/pets/versions/1/evaluation",
        "/models/pets/versions/1/files/card.json",
        "/architectures/lenet",
    ):
        first = client.get(path)
        assert first.status_code == 200, path
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"]
        again = client.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag), path
        assert client.get(path, headers={"If-None-Match": '"x"'}).content == first.content


def test_a_change_is_sent(client: TestClient, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.id}"
    tag = client.get(path).headers["ETag"]
    client.patch(path, json={"name": "other"})
    answer = client.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["name"]) == (200, "other")
    assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_change_of_what_was_read_earlier_is_refused(
    client: TestClient, dataset: Dataset, resources: Resources, kind: str
) -> None:
    publish_model(resources)
    path = f"/datasets/{dataset.id}" if kind == "dataset" else "/models/pets"
    read = {"If-Match": client.get(path).headers["ETag"]}
    first = client.patch(path, json={"metadata": {"by": "one"}}, headers=read)
    second = client.patch(path, json={"metadata": {"by": "two"}}, headers=read)
    assert (first.status_code, second.status_code) == (200, 412)
    assert second.json()["code"] == "precondition_failed"
    assert client.get(path).json()["metadata"] == {"by": "one"}
    changed = {"If-Match": f'"x", {first.headers["ETag"]}'}
    assert client.patch(path, json={"metadata": {}}, headers=changed).status_code == 200
    assert client.patch(path, json={"metadata": {}}, headers={"If-Match": "*"}).status_code == 200


def test_an_error_carries_no_tag(client: TestClient) -> None:
    answer = client.get("/datasets/ds_x", headers={"If-None-Match": "*"})
    assert answer.status_code == 404
    assert "ETag" not in answer.headers


def test_tags_are_compared_weakly() -> None:
    assert matches('W/"a", "b"', '"a"')
    assert matches("*", '"a"')
    assert not matches("", '"a"')
    assert not matches('"ab"', '"a"')


def test_a_finished_stream_tells_a_browser_not_to_come_back(client: TestClient, work: Work) -> None:
    job = work.submit()
    client.post(f"/jobs/{job}/cancel")
    stream = {"Accept": "text/event-stream"}
    first = client.get(f"/jobs/{job}/events", headers=stream)
    last = first.text.rpartition("id: ")[2].splitlines()[0]
    assert first.status_code == 200
    again = client.get(f"/jobs/{job}/events", headers={**stream, "Last-Event-ID": last})
    assert (again.status_code, again.content) == (204, b"")
    earlier = client.get(f"/jobs/{job}/events", headers={**stream, "Last-Event-ID": "0"})
    assert earlier.text == first.text
