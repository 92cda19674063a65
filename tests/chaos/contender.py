"""One process among many on the same SQLite file: `python -m tests.chaos.contender WRITES JOB`.

Raises a counter WRITES times in transactions that read it first; with 0 it reads until its input
ends. Prints the seconds of each transaction as a JSON list.
"""

import json
import select
import sys
import time

from core.domain import jobs
from core.store.db import Database
from core.system.settings import Settings


def write(database: Database, job_id: str, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.monotonic()
        with database.write() as session:
            jobs.get(session, job_id, lock=True).last_step += 1
        taken.append(time.monotonic() - began)
    return taken


def read(database: Database, job_id: str) -> list[float]:
    taken, last = [], 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        began = time.monotonic()
        with database.read() as session:
            now = jobs.get(session, job_id).last_step
        taken.append(time.monotonic() - began)
        assert now >= last, "time ran backwards"
        last = now
    return taken


if __name__ == "__main__":
    opened = Database(Settings().database_url)
    with opened.read() as first:  # Connects and compiles.
        jobs.get(first, sys.argv[2])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    wanted = int(sys.argv[1])
    told = write(opened, sys.argv[2], wanted) if wanted else read(opened, sys.argv[2])
    opened.close()
    sys.stdout.write(json.dumps(told) + "\n")
