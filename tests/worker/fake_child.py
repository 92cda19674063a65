"""A child that obeys the contract of RUN_DIR without training anything.

request.json: {"steps": N, "script": {step: action}, "gate": folder}. Each step is an event and a
checkpoint. An action runs before its step, once per job (a file in the gate folder marks it):
`crash`, `raise` (what nobody expects), `segfault`, `refuse`, `hang`, `vanish` (exit 0 without a
result), `litter` (leave a grandchild), `wait` (until `go` exists in the gate folder), `ignore`
(SIGTERM from here on), `nap`.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

NAP = 0.1


def main(run_dir: Path) -> int:
    request = json.loads((run_dir / "request.json").read_text())
    gate = Path(request["gate"])
    asked: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, stop)
    state = run_dir / "checkpoint" / "step"
    done = int(state.read_text()) if state.exists() else 0
    sys.stdout.write(f"pid {os.getpid()} starts at step {done}\n")
    (gate / "pids").open("a").write(f"{os.getpid()}\n")
    say(run_dir, kind="phase", phase="training")
    for step in range(done + 1, request["steps"] + 1):
        action = request["script"].get(str(step))
        marker = gate / f"{step}.{action}"
        if action in request.get("always", []) or (action and not marker.exists()):
            marker.touch()
            code = act(action, gate, asked, run_dir)
            if code is not None:
                return code
        if asked:
            return 75
        say(run_dir, kind="progress", progress=step / request["steps"], step=step, eta=1.0)
        say(run_dir, kind="epoch", epoch=step, val_loss=float("nan"))
        save(state, str(step))
    draft = run_dir / "result.tmp"
    draft.mkdir()
    weights = f"weights after {request['steps']} steps".encode()
    (draft / "weights.safetensors").write_bytes(weights)
    facts = {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)}
    card = {"metrics": {"accuracy": 1.0}, "files": {"weights.safetensors": facts}}
    (draft / "card.json").write_text(json.dumps(card))
    draft.rename(run_dir / "result")
    return 0


def act(action: str, gate: Path, asked: list[int], run_dir: Path) -> int | None:
    if action in ("crash", "vanish"):
        sys.stdout.write("RuntimeError: told to\n")
        return int(action == "crash")
    if action == "raise":
        raise ZeroDivisionError(f"told to, as process {os.getpid()}")
    if action == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if action == "refuse":
        error = {"code": "loss_diverged", "message": "told to", "param": None, "hint": None}
        (run_dir / "error.json").write_text(json.dumps(error))
        return 2
    if action == "litter":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        (gate / "pids").open("a").write(f"{child.pid}\n")
    if action == "nap":
        time.sleep(NAP)
    if action in ("ignore", "ignore_and_wait"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if action in ("wait", "hang", "ignore_and_wait"):
        (gate / "waiting").touch()
        while not asked and not (gate / "go").exists():
            time.sleep(0.01)
    return None


def say(run_dir: Path, **event: object) -> None:
    with (run_dir / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def save(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name("step.tmp")
    draft.write_text(text)
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
