"""How long threads of the predictor should wait: python bench/waiting_threads.py [NETWORK ...].

One image after another through a network in torch, with as many threads as there are cores, in
processes with `machine.LOOK`, with `machine.SLEEP` and as OpenMP does by default, in random order:
with nothing beside them, and beside as many busy processes as there are cores.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("mobilenet_v2", "resnet18")
WARM, MEASURED = 5, 50  # Images before the clock, and those that are measured.
BETWEEN_SECONDS = 0.02  # An image is waited for: threads would spin through a queue of them too.
BUSY = "while True: pass"


def measure(name: str) -> float:
    """Return the median milliseconds of one image."""
    import torch  # noqa: PLC0415 - what it reads of the environment is what is measured.
    import torchvision  # noqa: PLC0415

    from core.system.machine import cores  # noqa: PLC0415 - the path is set in main.

    torch.set_num_threads(cores())
    network = torchvision.models.get_model(name).eval()
    side = 299 if name == "inception_v3" else 224
    image = torch.rand(1, 3, side, side)
    seconds = []
    with torch.inference_mode():
        for _ in range(WARM + MEASURED):
            time.sleep(BETWEEN_SECONDS)
            before = time.perf_counter()
            network(image)
            seconds.append(time.perf_counter() - before)
    return statistics.median(seconds[WARM:]) * 1000


def main() -> None:
    """Measure each network in rounds, and print the ratio of each round to that of `LOOK`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if asked.measure:
        print(measure(asked.measure))
        return
    from core.system.machine import LOOK, SLEEP, cores  # noqa: PLC0415 - the path is set now.

    usual = {name: value for name, value in os.environ.items() if name not in SLEEP}
    environments = {"look": usual | LOOK, "sleep": usual | SLEEP, "default": usual}
    for name in asked.networks:
        for neighbours in (0, cores()):
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(neighbours)]
            told = defaultdict(list)
            try:
                for _ in range(asked.rounds):
                    for how in random.sample(sorted(environments), len(environments)):
                        command = [sys.executable, __file__, "--measure", name]
                        said = subprocess.run(
                            command, env=environments[how], check=True, capture_output=True
                        )
                        told[how].append(float(said.stdout))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            for how, found in told.items():
                ratios = [one / look for one, look in zip(found, told["look"], strict=True)]
                print(
                    f"{name:14} beside {neighbours} busy: {how:8} {statistics.median(found):6.1f}"
                    f" ms, of look {statistics.median(ratios):.2f}"
                    f" ({min(ratios):.2f} to {max(ratios):.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
