"""The table of kinds of jobs: `worker/kinds/KIND.py` defines each under the name WORK."""

from collections.abc import Mapping
from importlib import import_module

from topwork.kinds import JobKind
from worker.kinds.kind import Work

WORKS: Mapping[str, Work] = {kind: import_module(f"worker.kinds.{kind}").WORK for kind in JobKind}
