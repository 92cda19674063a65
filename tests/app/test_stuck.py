"""An api by itself, as in a container whose log driver takes nothing."""

from pathlib import Path

import httpx2
import pytest

from tests.app.apiprocess import start
from tests.stuck import KINDS, stuck

REQUESTS = 100


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_is_answered_and_it_ends(kind: str, tmp_path: Path, migrated: Path) -> None:
    with stuck(kind) as place:
        for api in start(tmp_path, migrated, output=place.fd):
            with httpx2.Client(base_url=api.url, timeout=10) as client:
                for number in range(REQUESTS):
                    path = "/jobs" if number % 10 else "/no/such/place"
                    assert client.get(path).status_code == (200 if number % 10 else 404)
                headers = {"Content-Type": "image/png"}
                assert client.post("/predict", content=b"x", headers=headers).status_code == 503
            assert place.takes_nothing()
            assert api.stop() < 10
            assert api.process.returncode == 0
