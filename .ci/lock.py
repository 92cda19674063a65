"""Turn pip's installation report on stdin into the lines of requirements.lock."""

import json
import sys

HEADER = """\
# Written by `make lock`; every `make setup` installs within these versions.
# A constraints file: lines for another platform's packages do no harm."""

packages = (entry["metadata"] for entry in json.load(sys.stdin)["install"])
pins = {package["name"].lower(): package["version"] for package in packages}
for ours in ("topwork", "topwork-client"):
    pins.pop(ours)
print(HEADER, *(f"{name}=={version}" for name, version in sorted(pins.items())), sep="\n")
