"""Suspects of a version: which are listed, in which order, and who names them."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from core.domain import registry
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import Dataset
from tests.app.apiclient import publish_model, suspected
from topwork.kinds import Scope

LABEL, OUTLIER = "label_suspect", "outlier"


def listed(client: TestClient, dataset: Dataset, number: int = 1, **query: Any) -> Any:
    """The answer to a request for suspects."""
    path = f"/datasets/{dataset.id}/versions/{number}/images"
    return client.get(path, params={"finding": LABEL, **query})


def hashes(client: TestClient, dataset: Dataset, **query: Any) -> list[str]:
    answer = listed(client, dataset, **query)
    assert answer.status_code == 200, answer.text
    return [image["sha256"] for image in answer.json()["data"]]


def judged(
    resources: Resources, dataset: Dataset, *rows: Any, number: int = 1, **options: Any
) -> None:
    """Publish a model that was trained on a version and suspects these images."""
    origin = {"dataset": {"id": dataset.id, "version": number}}
    publish_model(resources, more=origin, suspects=suspected(*rows), **options)


@pytest.fixture
def images(client: TestClient, dataset: Dataset) -> list[dict[str, Any]]:
    page = client.get(f"/datasets/{dataset.id}/versions/1/images?limit=12").json()
    assert all(image["suspect"] is None for image in page["data"])
    return page["data"]


@pytest.fixture
def cats(images: list[dict[str, Any]]) -> list[str]:
    return [image["sha256"] for image in images if image["class"] == "cat"]


def test_the_worst_come_first_page_by_page(
    client: TestClient, resources: Resources, dataset: Dataset, cats: list[str]
) -> None:
    rows = [
        (cats[place], "cat", LABEL, score, "dog") for place, score in ((4, 0.9), (1, 0.8), (3, 0.7))
    ]
    judged(resources, dataset, *rows, (cats[2], "cat", OUTLIER, 0.4, None))
    page = listed(client, dataset, limit=2)
    assert [image["sha256"] for image in page.json()["data"]] == [cats[4], cats[1]]
    first = page.json()["data"][0]
    assert first["suspect"] == {"finding": LABEL, "score": 0.9, "likely": "dog", "model": "pets@1"}
    assert (first["class"], page.json()["has_more"]) == ("cat", True)
    link = page.headers["Link"]
    rest = client.get(link[1 : link.index(">")]).json()
    assert [image["sha256"] for image in rest["data"]] == [cats[3]]
    assert not rest["has_more"]
    assert hashes(client, dataset, finding=OUTLIER) == [cats[2]]
    assert hashes(client, dataset, **{"class": "dog"}) == []
    assert hashes(client, dataset, split="val") == [cats[1]]
    refused = listed(client, dataset, after=cats[0])
    assert (refused.status_code, refused.json()["param"]) == (404, "after")


def test_corrections_settle_suspects_in_the_version_that_they_make(
    client: TestClient, resources: Resources, dataset: Dataset, cats: list[str]
) -> None:
    """What the old version's model suspects is listed of the new one, as far as it still may be."""
    judged(resources, dataset, *((cat, "cat", LABEL, 0.9, "dog") for cat in cats[:4]))
    made = client.post(
        f"/datasets/{dataset.id}/versions",
        json={"exclude": [cats[0]], "relabel": {cats[1]: "dog"}, "confirm": [cats[2]]},
    ).json()
    assert {it["code"]: it["count"] for it in made["findings"]}["label_confirmed"] == 1
    assert hashes(client, dataset, number=2) == [cats[3]]
    assert hashes(client, dataset) == cats[:4]
    confirmed = hashes(client, dataset, number=2, finding="label_confirmed")
    assert confirmed == [cats[2]]
    again = {"relabel": {cats[2]: "dog"}}  # With another label nobody has confirmed it.
    client.post(f"/datasets/{dataset.id}/versions", json=again)
    assert hashes(client, dataset, number=3, finding="label_confirmed") == []


def test_the_newest_model_of_the_version_is_asked_unless_another_is_named(
    client: TestClient, resources: Resources, dataset: Dataset, cats: list[str]
) -> None:
    def of(cat: int) -> tuple[str, str, str, float, str]:
        return cats[cat], "cat", LABEL, 0.9, "dog"

    judged(resources, dataset, of(0))
    judged(resources, dataset, of(1))
    judged(resources, dataset, of(2), number=2)
    publish_model(resources, more={"dataset": {"id": dataset.id, "version": 1}})
    judged(
        resources, dataset, of(3), name="of_anna", caller=Caller("anna", frozenset({Scope.TRAIN}))
    )
    with_anna = hashes(client, dataset)  # On this machine, while there is no key, all is seen.
    assert with_anna == [cats[3]]
    client.delete("/models/of_anna")
    assert hashes(client, dataset) == [cats[1]]
    assert hashes(client, dataset, model="pets@1") == [cats[0]]
    assert hashes(client, dataset, model="pets@3") == [cats[2]]
    early = listed(client, dataset, model="pets@4")
    assert (early.status_code, early.json()["code"]) == (409, "not_judged")


def test_nobody_is_told_what_was_not_looked_for(
    client: TestClient, resources: Resources, dataset: Dataset
) -> None:
    """An empty list would say that all labels are right."""
    answer = listed(client, dataset)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_judged")
    publish_model(resources, "other", suspects="")
    refusals: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"model": "other@1"}, 422, "invalid_field"),
        ({"model": "nobody"}, 404, "model_not_found"),
        ({"model": "other@1", "finding": "exif_rotated"}, 422, "invalid_field"),
    )
    for query, status, code in refusals:
        answer = listed(client, dataset, **query)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["param"] == "model"
    refused = client.post(f"/datasets/{dataset.id}/versions", json={"confirm": ["0" * 64]})
    assert (refused.status_code, refused.json()["param"]) == (422, "confirm")


def test_models_of_others_are_not_asked(
    resources: Resources, dataset: Dataset, cats: list[str]
) -> None:
    anna = Caller("anna", frozenset({Scope.TRAIN}))
    judged(resources, dataset, (cats[0], "cat", LABEL, 0.9, "dog"), name="hers", caller=anna)
    for caller, found in ((anna, "hers"), (Caller("ben", frozenset({Scope.TRAIN})), None)):
        with resources.database.read(caller) as session:
            newest = registry.newest_with(session, "suspects.jsonl", dataset.id, 1)
            assert (newest and newest.name) == found
