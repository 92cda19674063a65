import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.system import tether
from core.system.child import python

# Starts a child that ties itself to it, tells the child's id, and waits.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-P", *sys.argv[1:]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""
TIED = """
import os
from core.system.tether import die_with_parent
die_with_parent(os.getppid())
print("tied", flush=True)
import time
time.sleep(600)
"""
WAITS = "print('here', flush=True); import time; time.sleep(600)"


@pytest.mark.skipif(sys.platform != "linux", reason="a request to Linux's kernel")
def test_who_asked_for_it_ends_with_its_parent() -> None:
    child = python("-c", PARENT, "-c", TIED)
    with subprocess.Popen(
        child.command, env=child.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        tied = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        assert select.select([tied], [], [], 10)[0]
        os.close(tied)


def test_who_asks_too_late_leaves_at_once() -> None:
    code = f"from core.system.tether import die_with_parent; die_with_parent({os.getpid() + 1})"
    child = python("-c", f"{code}; print('goes on')")
    done = subprocess.run(child.command, env=child.env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (tether.ORPHANED, b"")


def test_a_command_ends_when_the_pipe_closes(tmp_path: Path) -> None:
    """As on systems whose kernel does not tell; the script alone, isolated, in any folder."""
    theirs, ours = os.pipe()
    words = ("-I", "-S", tether.__file__, str(os.getpid()), str(theirs))
    child = python(*words, sys.executable, "-c", WAITS)
    with subprocess.Popen(
        child.command, env=child.env, stdout=subprocess.PIPE, pass_fds=(theirs,), cwd=tmp_path
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        os.close(ours)
        assert process.wait(10) == -signal.SIGKILL % 256
