from typing import Any

import pytest
from starlette.testclient import TestClient

from core.domain import aliases, gate
from core.store.resources import Resources
from core.store.row_access import Caller
from tests.app.apiclient import answers, publish_model
from topwork.errors import ModelNotFound

COMPARE = "/models/pets/compare"
ALIAS = "/models/pets/aliases/production"
PROMOTIONS = f"{ALIAS}/promotions"


@pytest.fixture
def versions(resources: Resources) -> None:
    """Version 1 has all right, version 2 takes two dogs for cats, version 3 is an early one."""
    publish_model(resources, said=answers("cd" * 50))
    publish_model(resources, said=answers("cccc" + "cd" * 48))
    publish_model(resources)


@pytest.mark.usefixtures("versions")
class TestCompare:
    def test_two_versions_class_by_class(self, client: TestClient) -> None:
        found = client.get(COMPARE, params={"old": 1, "new": 2}).json()
        assert (found["old"], found["new"], found["split"]) == (1, 2, "test")
        dog, cat = found["per_class"]
        assert (dog["class"], dog["old"], dog["new"]) == ("dog", 1.0, 0.96)
        assert dog["low"] < dog["change"] == -0.04 < dog["high"]
        assert (cat["class"], cat["change"]) == ("cat", 0.0)
        assert found["ece"]["old"] == pytest.approx(0.1)
        assert [image["path"] for image in found["broken"]] == ["1.png", "3.png"]

    def test_an_alias_is_as_good_as_a_number(self, client: TestClient) -> None:
        client.put("/models/pets/aliases/production", json={"version": 2})
        found = client.get(COMPARE, params={"old": "production", "new": "1"}).json()
        assert (found["old"], found["accuracy"]["fixed"]) == (2, 2)

    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ({"old": "1", "new": "3"}, 409, "not_comparable"),
            ({"old": "1", "new": "2", "split": "val"}, 409, "not_comparable"),
            ({"old": "1", "new": "9"}, 404, "model_not_found"),
            ({"old": "1", "new": "staging"}, 404, "model_not_found"),
            ({"old": "1", "new": "9" * 30}, 422, "invalid_field"),
            ({"old": "1", "new": "2", "split": "train"}, 422, "invalid_field"),
            ({"new": "2"}, 422, "invalid_field"),
        ],
    )
    def test_what_cannot_be_compared(
        self, client: TestClient, query: dict[str, str], status: int, code: str
    ) -> None:
        answer = client.get(COMPARE, params=query)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.usefixtures("versions")
class TestPromotion:
    def test_a_version_that_passes_is_promoted_with_its_evidence(self, client: TestClient) -> None:
        first = client.post(PROMOTIONS, json={"version": 1, "gate": {"max_ece": 0.2}})
        assert (first.status_code, first.headers["ETag"]) == (201, '"1"')
        assert first.headers["Location"] == ALIAS
        assert first.json()["evidence"]["against"] is None
        rules = [check["rule"] for check in first.json()["evidence"]["checks"]]
        assert rules == ["min_images", "max_ece"]  # There is nothing to compare with.
        second = client.post(PROMOTIONS, json={"version": 2, "gate": {"max_accuracy_drop": 0.1}})
        evidence = second.json()["evidence"]
        assert (second.json()["previous"], evidence["against"], evidence["images"]) == (1, 1, 100)
        assert all(check["passed"] for check in evidence["checks"])
        assert client.get(ALIAS).json()["version"] == 2

    @pytest.mark.parametrize(
        ("limits", "rules"),
        [
            ({"max_class_drop": 0.03, "max_accuracy_drop": None}, ["max_class_drop"]),
            ({"max_accuracy_drop": 0.02}, ["max_accuracy_drop"]),
            ({"max_accuracy_drop": None, "max_ece": 0.05}, ["max_ece"]),
            ({"max_accuracy_drop": None, "min_images": 101}, ["min_images"]),
            ({"max_class_drop": 0, "max_accuracy_drop": 0, "max_ece": 0},
             ["max_ece", "max_accuracy_drop", "max_class_drop"]),
        ],
    )  # fmt: skip
    def test_one_that_fails_changes_nothing(
        self, client: TestClient, limits: dict[str, float | None], rules: list[str]
    ) -> None:
        client.put(ALIAS, json={"version": 1})
        before = client.get(ALIAS).headers["ETag"], client.get(f"{ALIAS}/moves").json()
        answer = client.post(PROMOTIONS, json={"version": 2, "gate": limits})
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "gate_failed")
        assert problem["hint"]
        assert [one["param"] for one in problem["errors"]] == [f"gate.{rule}" for rule in rules]
        assert (client.get(ALIAS).headers["ETag"], client.get(f"{ALIAS}/moves").json()) == before

    def test_a_class_of_which_no_image_tells_fails(
        self, client: TestClient, resources: Resources
    ) -> None:
        said = answers("cd" * 50).replace('"class": "dog"', '"class": "eel"')
        publish_model(resources, said=said)
        client.put(ALIAS, json={"version": 1})
        limits = {"max_class_drop": 0.9, "max_accuracy_drop": None}
        problem = client.post(PROMOTIONS, json={"version": 4, "gate": limits}).json()
        assert "'dog' is not measured" in problem["detail"]

    def test_the_second_of_two_promotions_at_once_is_refused(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tag = client.put(ALIAS, json={"version": 1}).headers["ETag"]
        body = {"version": 2, "gate": {"max_accuracy_drop": None}}
        both = [client.post(PROMOTIONS, json=body, headers={"If-Match": tag}) for _ in "ab"]
        assert [answer.status_code for answer in both] == [201, 412]
        client.put(ALIAS, json={"version": 1})
        weigh = gate.judge

        def overtaken(*found: Any) -> Any:
            client.put(ALIAS, json={"version": 3})
            return weigh(*found)

        monkeypatch.setattr(gate, "judge", overtaken)
        answer = client.post(PROMOTIONS, json=body)
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
        assert client.get(ALIAS).json()["version"] == 3

    def test_a_repeated_request_promotes_once(self, client: TestClient) -> None:
        for _ in "ab":
            answer = client.post(PROMOTIONS, json={"version": 1}, headers={"Idempotency-Key": "k"})
            assert (answer.status_code, answer.json()["id"]) == (201, 1)

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"version": 9}, 404, "model_not_found"),
            ({"version": 3}, 409, "not_comparable"),
            ({"version": 1, "gate": {"max_class_drop": 2}}, 422, "invalid_field"),
            ({"version": 1, "gate": {"max_clas_drop": 0.1}}, 422, "invalid_field"),
            ({"version": 1, "gate": {"split": "val"}}, 409, "not_comparable"),
            ({}, 422, "invalid_field"),
        ],
    )
    def test_bad_input(
        self, client: TestClient, body: dict[str, object], status: int, code: str
    ) -> None:
        answer = client.post(PROMOTIONS, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.usefixtures("versions")
class TestRollback:
    def test_it_goes_back_move_by_move(self, client: TestClient) -> None:
        for version in (1, 2, 3):
            client.put(ALIAS, json={"version": version})
        assert client.post(f"{ALIAS}/rollback").json()["version"] == 2
        assert client.post(f"{ALIAS}/rollback").json()["version"] == 1
        nothing = client.post(f"{ALIAS}/rollback")
        assert (nothing.status_code, nothing.json()["code"]) == (409, "state_conflict")
        client.put(ALIAS, json={"version": 3})
        assert client.post(f"{ALIAS}/rollback").json()["version"] == 1
        moves = client.get(f"{ALIAS}/moves", params={"limit": 3}).json()
        assert [(one["id"], one["kind"], one["version"]) for one in moves["data"]] == [
            (7, "rollback", 1), (6, "set", 3), (5, "rollback", 1),
        ]  # fmt: skip
        rest = client.get(f"{ALIAS}/moves", params={"after": moves["last_id"]}).json()["data"]
        assert [one["id"] for one in rest] == [4, 3, 2, 1]

    def test_a_version_that_is_gone_is_passed_over(self, client: TestClient) -> None:
        for version in (1, 2, 3):
            client.put(ALIAS, json={"version": version})
        assert client.delete("/models/pets/versions/2").status_code == 204
        assert client.post(f"{ALIAS}/rollback").json()["version"] == 1

    def test_it_never_goes_to_where_it_is(self, client: TestClient) -> None:
        for version in (3, 1, 2, 1):
            client.put(ALIAS, json={"version": version})
        assert client.delete("/models/pets/versions/2").status_code == 204
        assert client.post(f"{ALIAS}/rollback").json()["version"] == 3
        assert client.post(f"{ALIAS}/rollback").status_code == 409

    def test_without_an_alias_there_is_nothing(self, client: TestClient) -> None:
        assert client.post(f"{ALIAS}/rollback").json()["code"] == "model_not_found"
        assert client.get(f"{ALIAS}/moves").json()["data"] == []
        assert client.get("/models/cats/aliases/production/moves").status_code == 404


@pytest.mark.usefixtures("versions")
def test_what_an_alias_points_to_is_not_deleted(client: TestClient, resources: Resources) -> None:
    client.put(ALIAS, json={"version": 2})
    for path in ("/models/pets", "/models/pets/versions/2"):
        answer = client.delete(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "model_in_use")
    assert client.delete("/models/pets/versions/1").status_code == 204
    assert client.get("/models/pets/versions/1").status_code == 404
    assert len({key.split("/")[1] for key in resources.storage.list("models")}) == 2
    client.delete(ALIAS)
    assert client.delete("/models/pets").status_code == 204
    assert resources.storage.list("models") == []


def test_nobody_sees_the_moves_of_another(client: TestClient, resources: Resources) -> None:
    anna, bert = (Caller(name, frozenset({"train"})) for name in ("anna", "bert"))
    publish_model(resources, caller=anna, said=answers("cd" * 9))
    assert client.post(PROMOTIONS, json={"version": 1}).status_code == 201  # An admin may.
    with resources.database.read(bert) as session:
        for look in (aliases.moves, aliases.number_of):
            with pytest.raises(ModelNotFound):
                look(session, name="pets", alias="production")
    with resources.database.read(anna) as session:
        assert len(aliases.moves(session, name="pets", alias="production")[0]) == 1
