"""The log of a whole run, searched for what must not be in it."""

from pathlib import Path
from typing import Any

import httpx2

from tests.app.apiclient import zipped
from tests.app.apiprocess import start

SECRET = "quite-a-very-long-secret"
PASSWORD = "hunter2hunter2"


def test_no_secret_is_in_the_log_of_a_run(tmp_path: Path, migrated: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(SECRET)
    environment: dict[str, Any] = {
        "TOPWORK_ADMIN_KEY_FILE": str(key_file),
        # Nothing listens there, so the doorbell and the probe of the broker complain.
        "TOPWORK_BROKER_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0",
        "TOPWORK_SWEEP_SECONDS": "0.3",
    }
    for api in start(tmp_path, migrated, **environment):
        with httpx2.Client(base_url=api.url, headers={"Authorization": f"Bearer {SECRET}"}) as root:
            made = root.post("/keys", json={"scopes": ["train"]}).json()["key"]
            headers = {"Authorization": f"Bearer {made}"}
            answer = root.post("/datasets", files={"file": ("x.zip", zipped())}, headers=headers)
            assert answer.status_code == 202
            for path in (f"/{made}", f"/jobs/{SECRET}", f"/jobs?after={made}"):
                root.get(path, headers=headers)
            root.get("/jobs", headers={"Authorization": f"Bearer {made[:-2]}ff"})
            root.get("/readyz")
        api.stop()
        log = api.log.read_text()
    assert '"event": "request"' in log
    for secret in (SECRET, PASSWORD, made, made.rpartition("_")[2], made[:-2]):
        assert secret not in log
    assert "***" in log
