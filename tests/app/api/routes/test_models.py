import json
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from core.store.resources import Resources
from core.system.settings import Settings
from tests.app.apiclient import publish_model


@pytest.fixture
def two_versions(resources: Resources) -> None:
    publish_model(resources)
    publish_model(resources)


@pytest.mark.usefixtures("two_versions")
class TestOwn:
    def test_a_model_and_its_versions(self, client: TestClient) -> None:
        model = client.get("/models/pets").json()
        assert (model["source"], model["latest"], model["architecture"]) == ("own", 2, "lenet")
        assert model["metrics"] == {"val_accuracy": 0.9}
        numbers = [row["number"] for row in client.get("/models/pets/versions").json()["data"]]
        assert numbers == [2, 1]
        version = client.get("/models/pets/versions/1").json()
        assert version["classes"] == ["cat", "dog"]
        assert version["digest"].startswith("sha256:")
        assert set(version["files"]) >= {"weights.safetensors", "card.json"}

    def test_what_it_was_measured_at(self, client: TestClient) -> None:
        own = "/models/pets/versions/2"
        assert client.get(f"{own}/evaluation").json()["splits"]["val"]["accuracy"] == 0.9
        confusion = client.get(f"{own}/confusion").json()["splits"]["val"]
        assert confusion["matrix"] == [[3, 1], [0, 4]]
        calibration = client.get(f"{own}/calibration").json()
        assert calibration["object"] == "calibration"
        assert calibration["calibration"]["temperature"] == 1.75
        assert calibration["splits"]["val"]["before"]["ece"] == 0.12
        assert calibration["splits"]["test"] is None  # Measured before there was calibration.
        errors = client.get(f"{own}/errors").json()
        assert errors["object"] == "errors"
        assert errors["splits"]["val"][0]["path"] == "cat/1.png"
        assert errors["splits"]["test"] is None
        links = client.get(own).json()["links"]
        for name in ("evaluation", "confusion", "calibration", "errors"):
            assert links[name] == f"{own}/{name}"
        answer = client.get(f"{own}/predictions")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line)["label"] for line in answer.text.splitlines()] == ["cat", "dog"]

    @pytest.mark.parametrize("damage", [b"", b"{", b"null", None], ids=str)
    def test_what_is_damaged_is_named_and_none_of_it_sent(
        self, client: TestClient, resources: Resources, damage: bytes | None
    ) -> None:
        own = "/models/pets/versions/1"
        parts = ("evaluation", "confusion", "calibration", "errors", "predictions")
        addresses = dict.fromkeys((f"{own}/{part}" for part in parts), "evaluation.json")
        addresses[f"{own}/predictions"] = "predictions.jsonl"
        addresses |= {f"{own}/files/{name}": name for name in client.get(own).json()["files"]}
        for key in resources.storage.list("models"):
            data = resources.storage.get_bytes(key)
            changed = bytes([data[0] ^ 1]) + data[1:] if damage is None else damage
            resources.storage.put_bytes(key, changed)
        for address, name in addresses.items():
            answer = client.get(address)
            assert (answer.status_code, answer.json()["code"]) == (409, "integrity"), address
            assert f"/{name} " in answer.json()["detail"]

    def test_a_file_that_is_gone_is_404_and_no_broken_download(
        self, client: TestClient, resources: Resources
    ) -> None:
        for key in resources.storage.list("models"):
            resources.storage.delete(key)
        answer = client.get("/models/pets/versions/1/predictions")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_files_are_downloads(self, client: TestClient) -> None:
        answer = client.get("/models/pets/versions/1/files/weights.safetensors")
        assert answer.content == b"w" * 3000
        assert answer.headers["content-length"] == "3000"
        assert answer.headers["content-disposition"].startswith("attachment")
        for name in ("nothing", "..%2fcard.json", "%2e%2e"):
            assert client.get(f"/models/pets/versions/1/files/{name}").status_code == 404

    def test_describe(self, client: TestClient) -> None:
        changed = client.patch("/models/pets", json={"description": "Ours", "metadata": {"a": 1}})
        assert changed.json()["description"] == "Ours"
        assert client.patch("/models/pets", json={}).json()["description"] == "Ours"
        assert (
            client.patch("/models/pets", json={"description": None}).json()["description"] is None
        )
        assert client.get("/models/pets").json()["metadata"] == {"a": 1}

    def test_delete_takes_everything(self, client: TestClient, resources: Resources) -> None:
        assert client.delete("/models/pets").status_code == 204
        assert client.get("/models/pets").status_code == 404
        assert resources.storage.list("models") == []
        assert client.delete("/models/pets").status_code == 404
        assert publish_model(resources).number == 3  # `pets@1` and `pets@2` are gone for good.


@pytest.mark.usefixtures("two_versions")
class TestAlias:
    PATH = "/models/pets/aliases/production"

    def test_an_alias_moves(self, client: TestClient) -> None:
        assert client.get(self.PATH).status_code == 404
        assert client.put(self.PATH, json={"version": 1}).json()["version"] == 1
        moved = client.put(self.PATH, json={"version": 2})
        assert moved.headers["ETag"] == client.get(self.PATH).headers["ETag"]
        assert client.get("/models/pets").json()["aliases"] == {"production": 2}
        assert client.delete(self.PATH).status_code == 204
        assert client.delete(self.PATH).status_code == 404

    def test_if_match_guards_against_lost_updates(self, client: TestClient) -> None:
        assert (
            client.put(self.PATH, json={"version": 1}, headers={"If-Match": "*"}).status_code == 412
        )
        tag = client.put(self.PATH, json={"version": 1}).headers["ETag"]
        first = client.put(self.PATH, json={"version": 2}, headers={"If-Match": tag})
        second = client.put(self.PATH, json={"version": 1}, headers={"If-Match": tag})
        assert (first.status_code, second.status_code) == (200, 412)
        assert second.json()["code"] == "precondition_failed"
        assert client.delete(self.PATH, headers={"If-Match": tag}).status_code == 412
        assert client.delete(self.PATH, headers={"If-Match": "*"}).status_code == 204

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/models/pets/aliases/production", {"version": 9}, 404),
            ("/models/cats/aliases/production", {"version": 1}, 404),
            ("/models/pets/aliases/3", {"version": 1}, 422),
            ("/models/pets/aliases/Bad Name", {"version": 1}, 422),
            ("/models/pets/aliases/production", {"version": 0}, 422),
            ("/models/pets/aliases/production", {"number": 1}, 422),
        ],
    )
    def test_a_wrong_alias_is_refused(
        self, client: TestClient, path: str, body: dict[str, int], status: int
    ) -> None:
        assert client.put(path, json=body).status_code == status


def test_models_of_both_kinds_by_name(
    client: TestClient, resources: Resources, settings: Settings, tmp_path: Path
) -> None:
    for name in ("aardvark", "zebra", "pets"):
        publish_model(resources, name)
    settings.weights_dir.mkdir()
    for name in ("mobilenet_v2", "resnet18"):
        (settings.weights_dir / f"{name}.safetensors").write_bytes(b"x")
    every = ["aardvark", "mobilenet_v2", "pets", "resnet18", "zebra"]
    names = lambda query: [row["name"] for row in client.get(f"/models?{query}").json()["data"]]  # noqa: E731
    assert names("") == every
    assert names("order=desc") == every[::-1]
    assert names("source=own") == ["aardvark", "pets", "zebra"]
    assert names("source=imagenet") == ["mobilenet_v2", "resnet18"]
    page = client.get("/models?limit=2").json()
    assert page["has_more"]
    assert names(f"limit=2&after={page['last_id']}") == every[2:4]
    imagenet = client.get("/models/mobilenet_v2").json()
    assert (imagenet["source"], imagenet["latest"]) == ("imagenet", None)
    shutil.rmtree(tmp_path / "data" / "weights")
    assert client.get("/models/mobilenet_v2").status_code == 200  # It may be downloaded.


def test_a_missing_model_has_a_hint(client: TestClient, resources: Resources) -> None:
    publish_model(resources)
    problem = client.get("/models/pet").json()
    assert (problem["status"], problem["code"]) == (404, "model_not_found")
    assert "pets" in problem["hint"]
    assert client.get("/models/lenet").status_code == 404  # Nobody publishes its weights.


class TestArchitectures:
    def test_the_list_is_paged_by_name(self, client: TestClient) -> None:
        seen: list[str] = []
        page = client.get("/architectures?limit=50").json()
        while True:
            seen += [row["name"] for row in page["data"]]
            if not page["has_more"]:
                break
            page = client.get(f"/architectures?limit=50&after={page['last_id']}").json()
        assert seen == sorted(set(seen))
        assert len(seen) > 80
        assert {"alexnet", "resnet50", "lenet", "nin"} <= set(seen)
        backwards = client.get("/architectures?limit=3&order=desc").json()["data"]
        assert [row["name"] for row in backwards] == seen[:-4:-1]

    def test_one_of_them(self, client: TestClient, settings: Settings) -> None:
        facts = client.get("/architectures/mobilenet_v2").json()
        assert facts["input_size"] == 224
        assert facts["parameters"] == 3_504_872
        assert facts["weights"]["available_offline"] is False
        assert facts["weights"]["obtainable"] is not settings.offline
        settings.weights_dir.mkdir()
        (settings.weights_dir / "mobilenet_v2.safetensors").write_bytes(b"x")
        facts = client.get("/architectures/mobilenet_v2").json()
        assert facts["weights"]["available_offline"] is True
        assert facts["weights"]["obtainable"] is True
        assert client.get("/architectures/lenet").json()["weights"] is None

    def test_a_missing_one_has_a_hint(self, client: TestClient) -> None:
        problem = client.get("/architectures/resnet51").json()
        assert (problem["status"], problem["code"]) == (404, "architecture_not_found")
        assert "resnet50" in problem["hint"]
