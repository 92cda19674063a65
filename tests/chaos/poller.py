"""Somebody who watches a job: `python -m tests.chaos.poller URL JOB SECONDS`.

Five times a second it asks for the job, and in the end it says how long each answer took and which
were no success.
"""

import json
import sys
import time

import httpx2

PAUSE = 0.2


def main(url: str, job: str, seconds: float) -> None:
    took: list[float] = []
    wrong: list[str] = []
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        client.get(f"/jobs/{job}").raise_for_status()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        until = time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            answer = client.get(f"/jobs/{job}")
            took.append(time.monotonic() - began)
            if not answer.is_success:
                wrong.append(f"{answer.status_code} {answer.text[:200]}")
            time.sleep(PAUSE)
    sys.stdout.write(json.dumps([took, wrong]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
