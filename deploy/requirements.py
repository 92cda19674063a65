"""Print what pyproject.toml asks for, for pip: `requirements.py PYPROJECT EXTRA...`.

The images install it before the code, which changes more often. The client is left out, as it comes
out of this repository.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
extras = [project["optional-dependencies"][extra] for extra in sys.argv[2:]]
wanted = [line for part in (project["dependencies"], *extras) for line in part]
sys.stdout.writelines(f"{line}\n" for line in wanted if not line.startswith("topwork-client"))
