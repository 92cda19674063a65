"""What a request says about its data: how names are encoded, whether a class may be missing."""

from pathlib import Path
from typing import Any

from sqlalchemy import select
from starlette.testclient import TestClient

from core.store.resources import Resources
from core.store.tables import Dataset, Job
from tests.app.apiclient import config, publish_dataset, two_classes
from tests.archives import folder, legacy_zip, picture, zip_of


def submitted(resources: Resources) -> list[Job]:
    with resources.database.read() as session:
        return list(session.scalars(select(Job)))


def test_the_encoding_of_names_is_asked_for_and_taken(
    client: TestClient, resources: Resources
) -> None:
    archive = {"file": ("old.zip", legacy_zip(folder("猫", "毛"), "gbk"))}
    question = client.post("/finetune?dry_run=true", files=archive, data=config())
    assert (question.status_code, question.json()["code"]) == (422, "name_encoding_unknown")
    assert question.json()["param"] == "name_encoding"
    answer = client.post("/finetune?dry_run=true", files=archive, data=config(name_encoding="GBK"))
    assert answer.json()["classes"] == ["毛", "猫"]
    job = client.post("/finetune", files=archive, data=config(name_encoding="Shift-JIS"))
    assert job.status_code == 202, job.text
    ingest = max(submitted(resources), key=lambda job: job.kind)
    assert ingest.config["answers"] == {"name_encoding": "cp932"}
    wrong = client.post("/finetune", files=archive, data=config(name_encoding="klingon"))
    assert (wrong.status_code, wrong.json()["param"]) == (422, "name_encoding")


def test_the_encoding_of_names_belongs_to_an_upload(client: TestClient, dataset: Dataset) -> None:
    body = {"dataset": dataset.id, "architecture": "lenet", "name_encoding": "cp437"}
    answer = client.post("/finetune", json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, "name_encoding")


PARTS = {f"{name}/part_{n}/{n}.png": picture(n) for name in ("cat", "dog") for n in (1, 2)}


def test_a_question_about_folders_lists_the_answers(
    client: TestClient, resources: Resources
) -> None:
    archive = {"file": ("pets.zip", zip_of(PARTS))}
    question = client.post("/finetune?dry_run=true", files=archive, data=config()).json()
    assert (question["code"], question["param"]) == ("layout_ambiguous", "layout")
    assert len(question["options"]) > 1
    for option in question["options"]:
        answered = config(layout=option["value"])
        plan = client.post("/finetune?dry_run=true", files=archive, data=answered).json()
        assert f"{len(plan['classes'])} classes ({', '.join(plan['classes'])})" in option["meaning"]
    fields = {"layout": "outer", "name": "{pets"}
    assert client.post("/datasets", files=archive, data=fields).status_code == 202
    layout = '{"train": "cat", "ignore": ["dog"]}'
    assert client.post("/datasets", files=archive, data={"layout": layout}).status_code == 202
    first, second = sorted(submitted(resources), key=lambda job: job.id)
    assert first.config["answers"] == {"layout": {"classes": "outer"}}
    assert second.config["answers"] == {"layout": {"train": ["cat"], "ignore": ["dog"]}}


def test_an_answer_that_fits_no_folder_is_refused_by_its_field(client: TestClient) -> None:
    archive = {"file": ("pets.zip", zip_of(PARTS))}
    for layout, param in (
        ({"train": ["trian"]}, "layout.train"),
        ({"train": ["cat"]}, "layout"),
        ({"ignore": ["."]}, "layout.ignore"),
        ({"train": ["cat"], "val": ["cat"], "ignore": ["dog"]}, "layout"),
        ({"classes": "outermost"}, "layout.classes"),
        ({"trian": ["cat"]}, "layout.trian"),
        ({"train": [1]}, "layout.train.0"),
        ("outermost", "layout.classes"),
        (["cat"], "layout"),
    ):
        answer = client.post("/finetune?dry_run=true", files=archive, data=config(layout=layout))
        assert (answer.status_code, answer.json()["param"]) == (422, param), answer.text


def test_a_dataset_without_some_of_its_classes_needs_a_word(
    client: TestClient, resources: Resources, tmp_path: Path
) -> None:
    lost = {"owl": {"not_an_image": 6}}
    dataset = publish_dataset(resources, tmp_path / "birds", lost=lost)
    body: dict[str, Any] = {"dataset": dataset.id, "architecture": "lenet"}
    refused = client.post("/finetune", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "classes_lost")
    assert "owl (6 x not_an_image)" in refused.json()["detail"]
    assert refused.json()["param"] == "allow_lost_classes"
    assert submitted(resources) == []
    shown = client.get(f"/datasets/{dataset.id}/versions/1").json()
    assert shown["lost_classes"] == lost
    assert "owl (6 x not_an_image)" in shown["reading"]
    taken = client.post("/finetune", json={**body, "allow_lost_classes": True})
    assert taken.status_code == 202, taken.text
    assert submitted(resources)[0].config["allow_lost_classes"] is True


def test_a_new_version_does_not_forget_a_lost_class(
    client: TestClient, resources: Resources, tmp_path: Path
) -> None:
    lost = {"owl": {"not_an_image": 6}, "hen": {"link": 1}}
    dataset = publish_dataset(resources, tmp_path / "birds", lost=lost)
    images = client.get(f"/datasets/{dataset.id}/versions/1/images").json()["data"]
    hens = {image["sha256"]: "hen" for image in images if image["split"] == "train"}
    first, *_ = hens
    made = client.post(f"/datasets/{dataset.id}/versions", json={"relabel": {first: "hen"}})
    assert made.json()["lost_classes"] == {"owl": {"not_an_image": 6}}
    assert "class_lost" in {found["code"] for found in made.json()["findings"]}
    answer = client.post("/finetune", json={"dataset": dataset.id, "architecture": "lenet"})
    assert answer.json()["code"] == "classes_lost"


def test_a_dry_run_shows_the_lost_classes_in_its_plan(client: TestClient) -> None:
    owls = {f"owl/{number}.jxl": b"\xff\x0a" + bytes(99) for number in range(3)}
    archive = {"file": ("birds.zip", zip_of({**two_classes(), **owls}))}
    answer = client.post("/finetune?dry_run=true", files=archive, data=config())
    assert answer.json()["classes"] == ["cat", "dog"]
    (found,) = [it for it in answer.json()["findings"] if it["code"] == "class_lost"]
    assert (found["severity"], found["count"], found["examples"]) == ("error", 1, ["owl"])
    assert "allow_lost_classes" in found["message"]


def test_two_archives_of_one_name_become_two_models(client: TestClient, dataset: Dataset) -> None:
    archive = {"file": ("pets.zip", zip_of(two_classes()))}
    first = client.post("/finetune", files=archive, data=config()).json()
    told = client.post("/finetune?dry_run=true", files=archive, data=config()).json()
    second = client.post("/finetune", files=archive, data=config()).json()
    assert [first["model"], told["name"], second["model"]] == ["pets", "pets-2", "pets-2"]
    other = client.post("/finetune", json={"dataset": dataset.id, "architecture": "lenet"}).json()
    again = client.post("/finetune", json={"dataset": dataset.id, "architecture": "lenet"}).json()
    assert other["model"] == again["model"] == "pets-3"
    named = client.post("/finetune", files=archive, data=config(name="pets")).json()
    assert named["model"] == "pets"


def test_an_architecture_is_the_same_however_it_is_spelled(
    client: TestClient, resources: Resources
) -> None:
    archive = {"file": ("pets.zip", zip_of(folder("cat", "dog")))}
    for spelled in ("LeNet", "le-net"):
        answer = client.post("/finetune", files=archive, data=config(architecture=spelled))
        assert answer.status_code == 202, answer.text
    jobs = [job for job in submitted(resources) if job.kind == "finetune"]
    assert [job.config["architecture"] for job in jobs] == ["lenet", "lenet"]
