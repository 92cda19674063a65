"""Which control groups bound a process: its own and all above it, in both versions."""

from pathlib import Path

from core.system.cgroup import files


def test_own_group_first_then_those_above_it(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("5:cpu,cpuacct:/a\n4:memory:/docker/x\n0::/user.slice/me\n")
    found = files("memory", "memory.max", "memory.limit_in_bytes", tmp_path, membership)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "memory/docker/x/memory.limit_in_bytes",
        "memory/docker/memory.limit_in_bytes",
        "memory/memory.limit_in_bytes",
        "user.slice/me/memory.max",
        "user.slice/memory.max",
        "memory.max",
    ]
    assert files("cpu", "cpu.max", "x", tmp_path, membership)[0] == tmp_path / "cpu/a/x"


def test_without_membership_the_roots_are_left(tmp_path: Path) -> None:
    found = files("memory", "memory.max", "memory.limit_in_bytes", tmp_path, tmp_path / "none")
    assert found == [tmp_path / "memory.max", tmp_path / "memory/memory.limit_in_bytes"]
