"""T7: the api dies at random points of an upload; what was acknowledged is never sent again."""

import os
import random
import signal
from pathlib import Path

import pytest

from app.client import Topwork
from app.client import pieces as client_pieces
from tests.app.apiprocess import start
from tests.app.test_upload_kills import archive, arrived, revived

pytestmark = pytest.mark.chaos
KILLS = 20
PIECE = 256 * 1024
PIECES = 120


def test_t7_the_api_is_killed_twenty_times_in_one_upload(
    tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "7"))
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure.
    draw = random.Random(seed)  # noqa: S311 - repeatable.
    for name, value in {"LARGE": PIECE, "PIECE": PIECE, "PAUSE": 0.1}.items():
        monkeypatch.setattr(client_pieces, name, value)
    path = archive(tmp_path, PIECES * PIECE + 17, seed)
    points = sorted(draw.sample(range(PIECE, PIECES * PIECE), KILLS))
    answered: list[int] = []
    send = client_pieces._send_piece

    def noted(*given: object) -> int:
        answered.append(send(*given))  # type: ignore[arg-type] # As given.
        return answered[-1]

    monkeypatch.setattr(client_pieces, "_send_piece", noted)
    for api in start(tmp_path, migrated):

        def progress(position: int, _total: int) -> None:
            if points and position >= points[0]:
                points.pop(0)
                # While the piece is on its way, or after it.
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 0.02))

        signal.signal(signal.SIGALRM, lambda *_: api.process.kill())  # noqa: B023 - one api.
        with revived(api) as codes, Topwork(api.url) as topwork:
            topwork.datasets.create(path, on_bytes=progress)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert arrived(api, path)
        print(f"CHAOS T7: {len(codes)} kills, {len(answered)} answers for {PIECES + 1} pieces")  # noqa: T201 - the figure.
        assert len(codes) >= KILLS // 2  # Two points may fall into one outage.
        assert answered == sorted(set(answered)), "an acknowledged byte was lost or sent again"
