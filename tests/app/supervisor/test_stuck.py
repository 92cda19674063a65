"""`topwork up` where nobody takes what it writes: a stopped terminal, a full pipe."""

import http.client
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.app.processes import alive, descendants
from tests.app.running import Up
from tests.stuck import KINDS, stuck
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
SEVERAL = 30  # Thousand lines of a child: more than all queues and pipes on the way take.


@pytest.mark.parametrize("kind", KINDS)
def test_it_serves_and_ends_and_so_do_its_children(kind: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with stuck(kind) as place:
        words = ("tests.app.standin", str(data), "0", "chatty")
        up = Up(tmp_path / "log", *words, output=place.fd)
        try:
            holder, said = data / "topwork.lock", data / "said"
            url = json.loads(wait_for(lambda: holder.exists() and holder.read_text(), 60))["url"]
            wait_for(lambda: said.exists() and said.stat().st_size >= SEVERAL, 60)
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
            assert place.takes_nothing()
            children = descendants(up.popen.pid)
            assert len(children) == 3
            began = time.monotonic()
            up.popen.send_signal(signal.SIGTERM)
            assert up.popen.wait(10) == 0
            assert time.monotonic() - began < 10
            assert alive(children) == []
        finally:
            up.kill()
