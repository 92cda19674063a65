"""The command line against a real api in this process; no worker runs, tests move the jobs."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from safetensors.numpy import save_file
from sqlalchemy import text
from typer.testing import CliRunner, Result

from app.api.main import create_app
from app.cli import program
from app.cli.models import evaluation_tables
from app.cli.options import choices, request
from app.terminal.output import Terminal, table
from core.domain import keys, leases
from core.store.resources import Resources
from core.store.tables import Dataset
from core.system.settings import Settings
from tests.app.apiclient import (
    Work,
    answers,
    png,
    publish_dataset,
    publish_model,
    served,
    suspected,
)
from topwork import Topwork
from topwork.errors import InvalidField
from topwork.types.evaluation import Evaluation
from topwork.types.finetune import FinetuneRequest

Run = Callable[..., Result]


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    """Address of an api on the test's own data."""
    # In one process both would write to stdout.
    with served(create_app(settings)) as url, structlog.testing.capture_logs():
        yield url


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `topwork` with arguments, on the test's api."""
    monkeypatch.setenv("TOPWORK_URL", url)
    return lambda *words: CliRunner().invoke(program, [str(word) for word in words])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command that needs no service."""
    monkeypatch.setenv("TOPWORK_DATA_DIR", str(tmp_path / "data"))
    return lambda *words: CliRunner().invoke(program, [str(word) for word in words])


@pytest.fixture
def work(resources: Resources) -> Work:
    return Work(resources)


@pytest.fixture
def dataset(resources: Resources, tmp_path: Path) -> Dataset:
    return publish_dataset(resources, tmp_path / "pets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        (tmp_path / "folder" / name / "1.png").write_bytes(png())
    return tmp_path / "folder"


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def test_train_sends_a_folder_and_its_options(run: Run, folder: Path) -> None:
    options = ("-m", "lenet", "-e", 3, "--lr", "0.01", "--name", "zoo", "--patience", "none")
    more = ("--metadata", "ticket=42", "--metadata", "note=a=b")
    sent = json.loads(done(run("train", folder, *options, *more, "--no-watch", "--json")).stdout)
    assert sent["state"] == "waiting"
    assert sent["model"] == "zoo"
    assert sent["metadata"] == {"ticket": "42", "note": "a=b"}
    assert sent["config"]["architecture"] == "lenet"
    assert sent["config"]["hyperparameters"]["epochs"] == 3
    assert sent["config"]["hyperparameters"]["learning_rate"] == 0.01
    assert sent["config"]["early_stopping"] is None
    kinds = {one["kind"] for one in json.loads(done(run("jobs", "list", "--json")).stdout)}
    assert kinds == {"ingest", "finetune"}


def test_train_on_a_dataset_and_its_dry_run(run: Run, dataset: Dataset) -> None:
    plan = json.loads(done(run("train", dataset.id, "-m", "lenet", "--dry-run", "--json")).stdout)
    assert plan["plan"]["epochs"]["reason"]
    assert json.loads(done(run("jobs", "list", "--json")).stdout) == []
    job = json.loads(done(run("train", dataset.id, "-m", "lenet", "--no-watch", "--json")).stdout)
    assert job["dataset"] == f"{dataset.id}@1"


def test_a_finished_job_is_followed_to_its_metrics(run: Run, dataset: Dataset, work: Work) -> None:
    done(run("train", dataset.id, "-m", "lenet", "--no-watch"))
    job = work.claim()
    epoch = {"kind": "epoch", "epoch": 1, "train_loss": 0.7, "val_accuracy": 0.875}
    work.do(leases.record, job, [{"kind": "phase", "phase": "training"}, epoch])
    work.do(leases.succeed, job, {"model": "pets@1", "metrics": {"val": {"accuracy": 0.875}}})

    watched = done(run("jobs", "watch", job[0]))
    assert "epoch 1: train_loss 0.7, val_accuracy 0.875" in watched.stderr
    lines = done(run("jobs", "watch", job[0], "--json")).stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines if "epoch" in line] == ["epoch"]
    shown = json.loads(done(run("jobs", "show", job[0], "--json")).stdout)
    assert shown["result"]["model"] == "pets@1"
    events = json.loads(done(run("jobs", "events", job[0], "--json")).stdout)
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    assert done(run("jobs", "logs", job[0])).stdout == ""


def test_a_failed_job_fails_the_command_with_its_reason(
    run: Run, dataset: Dataset, work: Work
) -> None:
    done(run("train", dataset.id, "-m", "lenet", "--no-watch"))
    job = work.claim()
    error = {"code": "loss_diverged", "message": "no number", "hint": "Choose a smaller rate."}
    work.do(leases.fail, job, error)
    watched = run("jobs", "watch", job[0])
    assert watched.exit_code == 1
    assert "Error: no number" in watched.stderr
    assert "Hint: Choose a smaller rate." in watched.stderr


def test_a_job_is_paused_cancelled_retried_and_deleted(run: Run, dataset: Dataset) -> None:
    job = json.loads(done(run("train", dataset.id, "-m", "lenet", "--no-watch", "--json")).stdout)
    verbs = {"pause": "paused", "resume": "queued", "cancel": "cancelled", "retry": "queued"}
    for verb, state in (*verbs.items(), ("cancel", "cancelled")):
        assert json.loads(done(run("jobs", verb, job["id"], "--json")).stdout)["state"] == state
    done(run("jobs", "delete", job["id"]))
    assert run("jobs", "show", job["id"]).exit_code == 2


def test_suspects_are_listed_and_corrected(
    run: Run, url: str, dataset: Dataset, resources: Resources
) -> None:
    assert run("datasets", "suspects", dataset.id).exit_code == 1  # Nobody has looked for any.
    with Topwork(url) as topwork:
        cats = [one.sha256 for one in topwork.datasets.images(dataset.id, class_name="cat")]
    rows = [(cat, "cat", "label_suspect", 0.9, "dog") for cat in cats[:3]]
    origin = {"dataset": {"id": dataset.id, "version": 1}}
    publish_model(resources, more=origin, suspects=suspected(*rows))
    told = json.loads(done(run("datasets", "suspects", dataset.id, "--json")).stdout)
    assert [(one["sha256"], one["suspect"]["likely"]) for one in told] == [
        (cat, "dog") for cat in cats[:3]
    ]
    assert "dog" in done(run("datasets", "suspects", dataset.id, "--model", "pets")).stdout
    changes = ("--exclude", cats[0], "--relabel", f"{cats[1]}=dog", "--confirm", cats[2])
    made = json.loads(done(run("datasets", "revise", dataset.id, *changes, "--json")).stdout)
    assert (made["number"], made["images"]) == (2, 11)
    left = done(run("datasets", "suspects", dataset.id, "--version", 2, "--json")).stdout
    assert json.loads(left) == []
    assert run("datasets", "revise", dataset.id, "--relabel", cats[1]).exit_code == 2


def test_datasets_are_added_listed_reported_and_deleted(
    run: Run, dataset: Dataset, folder: Path
) -> None:
    added = json.loads(done(run("datasets", "add", folder, "--no-watch", "--json")).stdout)
    assert added["state"] == "ingesting"
    listed = json.loads(done(run("datasets", "list", "--json")).stdout)
    assert {one["id"] for one in listed} == {added["id"], dataset.id}
    assert dataset.id in done(run("datasets", "list")).stdout
    assert dataset.id in done(run("datasets", "show", dataset.id)).stdout
    report = json.loads(done(run("datasets", "report", dataset.id, "--json")).stdout)
    assert [one["path"] for one in report] == ["x.txt"] * 3
    sent = folder.parent / "sent.zip"
    done(run("datasets", "export", dataset.id, sent, "--as", "coco"))
    assert "annotations/train.json" in zipfile.ZipFile(sent).namelist()
    assert run("datasets", "export", dataset.id, sent, "--version", 9).exit_code == 2
    assert [it.name for it in folder.parent.glob("sent*")] == ["sent.zip"]
    done(run("datasets", "delete", dataset.id))
    assert run("datasets", "show", dataset.id).exit_code == 2


def test_models_are_listed_aliased_and_deleted(run: Run, resources: Resources) -> None:
    publish_model(resources)
    (listed,) = json.loads(done(run("models", "list", "--json")).stdout)
    assert (listed["name"], listed["latest"]) == ("pets", 1)
    done(run("models", "alias", "pets", "production", 1))
    assert "production -> 1" in done(run("models", "list")).stdout
    assert "0.9" in done(run("models", "evaluation", "pets", "--json")).stdout
    shown = [line.split() for line in done(run("models", "evaluation", "pets")).stdout.splitlines()]
    assert ["accuracy", "0.900", "0.625", "to", "0.975"] in shown
    assert ["macro_f1", "0.870", "-"] in shown
    assert ["ece", "0.034", "-"] in shown
    assert ["ece_uncalibrated", "0.120", "-"] in shown
    assert ["temperature", "1.750", "-"] in shown
    assert ["accuracy", "0.800", "-"] in shown  # The other split has no interval.
    done(run("models", "alias", "pets", "production", "--delete"))
    assert run("models", "alias", "pets", "production").exit_code == 2
    assert "production" not in done(run("models", "show", "pets")).stdout
    done(run("models", "delete", "pets"))
    assert run("models", "show", "pets").exit_code == 2


def test_a_version_that_nobody_has_measured_says_so() -> None:
    found = Evaluation.model_validate({"splits": {}})
    assert evaluation_tables(found) == "This version came without an evaluation."


def test_two_versions_are_compared(run: Run, resources: Resources) -> None:
    publish_model(resources, said=answers("cdcd"))
    publish_model(resources, said=answers("cdcc"))
    shown = done(run("models", "compare", "pets", 1, 2)).stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["dog", "2", "1.000", "0.500", "-0.500"] in [row[:5] for row in rows]
    assert json.loads(done(run("models", "compare", "pets", 1, 2, "--json")).stdout)["new"] == 2


def test_a_version_is_promoted_and_rolled_back(run: Run, resources: Resources) -> None:
    publish_model(resources, said=answers("cd" * 50))
    publish_model(resources, said=answers("cccc" + "cd" * 48))
    done(run("models", "promote", "pets", "production", 1))
    refused = run("models", "promote", "pets", "production", 2, "--max-class-drop", 0.01)
    assert refused.exit_code == 1
    assert "max_class_drop of 'dog' is 0.04" in refused.stderr
    done(run("models", "promote", "pets", "production", 2, "--max-accuracy-drop", 1))
    back = json.loads(done(run("models", "rollback", "pets", "production", "--json")).stdout)
    assert (back["kind"], back["version"], back["previous"]) == ("rollback", 1, 2)


def test_an_error_shows_message_and_hint_and_ends_with_2(run: Run, dataset: Dataset) -> None:
    wrong = run("train", dataset.id, "-m", "resnet19", "--no-watch")
    assert wrong.exit_code == 2
    assert "resnet19" in wrong.stderr
    assert "Hint: Did you mean resnet18" in wrong.stderr
    assert wrong.stdout == ""
    error = json.loads(run("jobs", "show", "job_x", "--json").stderr)["error"]
    assert error["code"] == "job_not_found"
    assert error["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--url", "http://127.0.0.1:x", "is not the address"), ("--key", "clé", "no HTTP header")],
)
def test_an_impossible_address_or_key_is_named(
    offline: Run, option: str, value: str, words: str
) -> None:
    result = offline("jobs", "list", option, value)
    assert result.exit_code == 2
    assert words in result.stderr


def test_options_that_contradict_each_other_are_named(offline: Run, folder: Path) -> None:
    result = offline("train", folder, "-m", "lenet", "--val", "0.6", "--test", "0.6")
    assert result.exit_code == 2
    assert "split: val and test together must leave images" in result.stderr


def test_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().show(None, lambda: table(("path", "[red]"), [("a[/b].png", "[bold]cat")]))
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("a[/b].png", "[bold]cat", "[red]"))


def test_a_service_that_is_away_ends_with_1(offline: Run) -> None:
    result = offline("jobs", "list", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "topwork up" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--lr", "NaN", "finite"),
        ("--epochs", "0", "greater than or equal to 1"),
        ("--val", "2", "less than or equal"),
        ("--strategy", "tail", "'head'"),
        ("--early-stopping", "1", "No such option"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_sent(
    offline: Run, folder: Path, option: str, value: str, words: str
) -> None:
    result = offline("train", folder, "-m", "lenet", option, value)
    assert result.exit_code == 2
    assert option.replace("--lr", "--learning-rate") in result.stderr
    assert words in result.stderr


def test_every_field_of_the_request_has_an_option() -> None:
    reachable = {choice.path[0] for choice in choices()}
    assert set(FinetuneRequest.model_fields) - reachable == {"dataset", "metadata"}
    assert len({choice.name for choice in choices()}) == len(list(choices()))


def test_options_become_the_nested_body() -> None:
    given = {
        "architecture": "lenet",
        "epochs": "auto",
        "max_minutes": "5",
        "deterministic": "false",
    }
    known = {choice.name: choice for choice in choices()}
    assert request({known[name]: text for name, text in given.items()}) == {
        "architecture": "lenet",
        "hyperparameters": {"epochs": "auto"},
        "limits": {"max_minutes": 5},
        "deterministic": False,
    }
    with pytest.raises(InvalidField):
        request({known["architecture"]: "not a name?"})


def test_openapi_is_printed_without_a_service(offline: Run, tmp_path: Path) -> None:
    document = json.loads(done(offline("openapi")).stdout)
    assert "/finetune" in document["paths"]
    assert not (tmp_path / "data").exists()


def test_weights_are_listed_and_verified(offline: Run, tmp_path: Path) -> None:
    import numpy as np  # noqa: PLC0415 - one test's.

    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    file = folder / "mobilenet_v2.safetensors"
    save_file({"w": np.zeros(4, np.float32)}, file)
    assert (
        json.loads(done(offline("weights", "list", "--json")).stdout)[0]["bytes"]
        == file.stat().st_size
    )
    everything = json.loads(done(offline("weights", "list", "--all", "--json")).stdout)
    assert {"resnet50", "mobilenet_v2"} <= {one["architecture"] for one in everything}
    assert "unrecorded" in done(offline("weights", "verify")).stdout
    file.write_bytes(b"broken")
    assert offline("weights", "verify", "mobilenet_v2").exit_code == 1
    missing = offline("weights", "add", "resnet19", file)
    assert missing.exit_code == 2
    assert "resnet18" in missing.stderr


def test_no_color_and_pipes_get_plain_text(
    run: Run, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in run("datasets", "list").stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("datasets", "list").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in run("datasets", "list").stdout
    assert dataset.id in run("datasets", "list").stdout


def test_a_wrong_setting_is_named(offline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_MAX_ATTEMPTS", "none")
    result = offline("weights", "list")
    assert result.exit_code == 2
    assert "max_attempts" in result.stderr
    monkeypatch.delenv("TOPWORK_MAX_ATTEMPTS")
    monkeypatch.setenv("TOPWORK_ADMIN_KEY", "short")
    assert offline("weights", "list").stderr.startswith("Error: admin_key has fewer than 20")


def test_keys_are_made_listed_and_revoked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = done(run("keys", "create", "--scope", "admin", "--name", "me", "--json"))
    monkeypatch.setenv("TOPWORK_KEY", json.loads(made.stdout)["key"])
    options = ("--scope", "read", "--scope", "predict", "--owner", "anna", "--days", 30)
    shown = done(run("keys", "create", *options))
    assert "tw_" in shown.stdout
    first, second = json.loads(done(run("keys", "list", "--json")).stdout)
    assert (first["owner"], first["scopes"]) == ("anna", ["predict", "read"])
    assert "key" not in second
    done(run("keys", "revoke", second["id"]))
    refused = run("keys", "list")
    assert (refused.exit_code, "no valid key" in refused.output) == (2, True)


def test_the_audit_log_is_exported_and_verified(run: Run, resources: Resources) -> None:
    done(run("keys", "create", "--scope", "admin", "--owner", "x", "--name", "me", "--json"))
    key = json.loads(run("keys", "create", "--scope", "admin", "--json").stdout or "{}")
    assert not key, "a key is needed now"
    with resources.database.write() as session:
        made = keys.create(session, owner="x", scopes=["admin"])[1]
    given = ("--key", made)
    exported = done(run("audit", "export", *given)).stdout.splitlines()
    assert json.loads(exported[0])["action"] == "create_key"
    told = json.loads(done(run("audit", "verify", "--json", *given)).stdout)
    known = ("--seq", told["seq"], "--digest", told["digest"])
    done(run("audit", "verify", *known, *given))
    with resources.database.write() as session:
        session.execute(text("UPDATE audit_entry SET owner = 'y' WHERE seq = 1"))
    broken = run("audit", "verify", *given)
    assert broken.exit_code != 0
    assert "not as it was written" in broken.output
