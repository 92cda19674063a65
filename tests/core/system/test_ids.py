import pytest

from core.system.ids import new_id


def test_ids_sort_by_time_and_never_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_790_000_000_000_000_000, 1_800_000_000_000_000_000, 1_000_000))
    monkeypatch.setattr("core.system.ids.time.time_ns", lambda: next(clock))
    ids = [new_id("job") for _ in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert all(name.startswith("job_") and len(name) == 26 for name in ids)
