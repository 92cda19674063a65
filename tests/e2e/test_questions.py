"""A question about an upload is answered with one upload: by request, and by a person."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Service, png, zip_of

PARTS = {
    f"{name}/part_{part}/{index}.png": png(value, 100 * value + 10 * part + index)
    for value, name in enumerate(("cat", "dog"))
    for part in (1, 2)
    for index in range(4)
}


def answer(service: Service, dataset: str, **answers: Any) -> dict[str, Any]:
    """Answer, and wait until the upload has been read again."""
    taken = service.http.post(f"/datasets/{dataset}/answers", json=answers)
    assert taken.status_code == 202, taken.text
    return service.ended(taken.json()["id"])


def test_one_upload_is_asked_about_answered_and_trained_on(service: Service) -> None:
    config = {"architecture": "lenet", "name": "parts", "hyperparameters": {"epochs": 1}}
    job = service.finetune(zip_of(PARTS), **config)
    asked = service.ended(job)
    assert (asked["state"], asked["error"]["code"]) == ("failed", "layout_ambiguous")
    dataset = asked["dataset"].partition("@")[0]
    wrong = answer(service, dataset, layout={"train": ["cats"], "ignore": ["dog"]})
    assert (wrong["error"]["code"], wrong["error"]["param"]) == ("layout_mismatch", "layout.train")
    assert service.ended(job)["error"]["code"] == "layout_mismatch"
    outer = next(it["value"] for it in asked["error"]["options"] if "(cat, dog)" in it["meaning"])
    assert answer(service, dataset, layout=outer)["state"] == "succeeded"
    trained = service.ended(job)
    assert (trained["state"], trained["error"]) == ("succeeded", None)
    version = service.http.get(f"/datasets/{dataset}/versions/1").json()
    assert version["answers"] == {"layout": {"classes": "outer"}}
    assert (version["classes"], version["images"]) == (["cat", "dog"], len(PARTS))
    again = service.http.post(f"/datasets/{dataset}/answers", json={"layout": "inner"})
    assert (again.status_code, again.json()["code"]) == (409, "state_conflict")


def test_a_person_is_asked_on_the_terminal(service: Service, tmp_path: Path) -> None:
    (tmp_path / "parts.zip").write_bytes(zip_of(PARTS))
    command = [sys.executable, "-m", "app.cli", "datasets", "add", str(tmp_path / "parts.zip")]
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*command, "--url", service.url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while b"What is meant" not in said:
            said += os.read(ours, 4096)
        assert b"1  2 classes (cat, dog)" in said
        os.write(ours, b"1\n")
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # As Linux says that nobody has the other end open.
                break
        assert process.wait(60) == 0, said.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"I see 2 classes (cat, dog)" in said


def test_a_script_is_told_the_answers_and_the_command(service: Service, tmp_path: Path) -> None:
    (tmp_path / "parts.zip").write_bytes(zip_of(PARTS))
    command = [sys.executable, "-m", "app.cli", "datasets"]
    asked = subprocess.run(
        [*command, "add", str(tmp_path / "parts.zip"), "--url", service.url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 1
    assert """--layout '{"classes": "outer"}': 2 classes (cat, dog)""" in asked.stderr
    (dataset,) = set(re.findall(r"datasets answer (ds_\w+)", asked.stderr))
    answered = [*command, "answer", dataset, "--layout", '{"classes": "outer"}']
    subprocess.run([*answered, "--url", service.url], check=True, capture_output=True)
    assert service.http.get(f"/datasets/{dataset}").json()["state"] == "ready"
