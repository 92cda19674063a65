"""T19: the OpenAPI document against the running service, by Schemathesis, as every kind of caller.

Every check of Schemathesis is on but one: `positive_data_acceptance` takes any refusal of a request
that fits the schema for a fault, and no schema can say that text is base64 of an image, that
pretrained weights are on this machine, or that shares leave images to train on. Multipart bodies
are spared `negative_data_rejection`: its "wrong type" for a file is some other bytes, which are a
file too, and what they hold is judged by the job. No operation is left out.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.conftest import SEED, Tell, times
from tests.e2e.conftest import Service, running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
ADMIN = "schemathesis-" + "k" * 40
# `include-path` beside `include-method` chooses what fits either: each block has one key for both.
CONFIG = """
hooks = "tests.chaos.schema_hooks"

[checks]
positive_data_acceptance.enabled = false

[[operations]]
include-name-regex = "^POST /(datasets|finetune|predict)$"
checks.negative_data_rejection.enabled = false

# tus prescribes 412 for a request without `Tus-Resumable` or with that of another version, be the
# rest of it as wrong as it may.
[[operations]]
include-name-regex = "^(POST|DELETE) /uploads"
checks.missing_required_header.expected-statuses = [401, 403, 412]
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 412, 422, 429]

# And 409 for an offset that is not the upload's, none included; 415 for another media type.
[[operations]]
include-name = "PATCH /uploads/{upload_id}"
checks.missing_required_header.expected-statuses = [401, 403, 409, 412]
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 409, 412, 415, 422]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for a key."""
    folder = tmp_path_factory.mktemp("schema") / "data"
    with running(folder, TOPWORK_ADMIN_KEY=ADMIN) as service:
        yield service


def check(service: Service, folder: Path, key: str | None, *options: str) -> int:
    """Run Schemathesis as one caller; return the number of cases."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{service.url}/openapi.json",
        "--warnings=off",
        "--no-color",
        f"--seed={SEED}",
        *options,
    ]
    if key:
        command += ["--header", f"Authorization: Bearer {key}"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    found = re.search(r"(\d+) generated", done.stdout)
    chosen = re.search(r"(\d+) selected / (\d+) total", done.stdout)
    assert found, done.stdout[-3000:] + done.stderr[-3000:]
    assert chosen, done.stdout[-3000:]
    assert chosen[1] == chosen[2], "an operation is left out"
    assert done.returncode == 0, done.stdout[-12000:]
    if key:
        answer = httpx2.get(f"{service.url}/jobs", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code in {200, 403}, "the caller is not known any more"
    return int(found[1])


def key_for(admin: httpx2.Client, caller: str) -> str | None:
    """Return a key; a new one, as Schemathesis finds and revokes those that the admin may see."""
    if caller == "nobody":
        return None
    if caller == "admin":
        return ADMIN
    made = admin.post("/keys", json={"name": caller, "scopes": [caller]})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


# Each caller, the phases of Schemathesis, examples for each operation, and the least cases of it.
CALLERS = [
    ("admin", "coverage,fuzzing,stateful", times(60), 1000),
    ("nobody", "coverage", 1, 1000),
    *(
        pytest.param(*caller, marks=pytest.mark.nightly)
        for caller in (
            ("read", "coverage,fuzzing", times(30), 1000),
            ("train", "coverage", 1, 1000),
            ("predict", "coverage", 1, 1000),
        )
    ),
]


@pytest.mark.parametrize(("caller", "phases", "examples", "least"), CALLERS)
def test_no_caller_meets_a_server_error_or_an_undocumented_answer(
    caller: str,
    phases: str,
    examples: int,
    least: int,
    guarded: Service,
    tmp_path: Path,
    tell: Tell,
) -> None:
    with httpx2.Client(base_url=guarded.url, headers={"Authorization": f"Bearer {ADMIN}"}) as admin:
        key = key_for(admin, caller)
    options = f"--phases={phases}", f"--max-examples={examples}"
    cases = check(guarded, tmp_path, key, *options)
    tell(f"T19 {caller}: {cases} cases, no server error, no violation of the document")
    assert cases >= least
