"""Make wheels of torch and torchvision, `+cpu` builds, whose files are those of installed ones.

`lend.py SITE_PACKAGES INDEX`: the images then mount that folder as /lent and need no download. What
else torch needs is asked for as by its own wheel, but for NVIDIA's libraries. While an image is
built there is no /lent, and a module without content, built for no CUDA, stands in its place.
"""

import re
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

OF_CUDA = re.compile(r"cuda|nvidia|triton")
sys.path[:0] = sys.argv[1:2]
for name in ("torch", "torchvision"):
    found = distribution(name)
    version = found.version.partition("+")[0] + "+cpu"
    needed = [line for line in found.requires or () if not OF_CUDA.match(line)]
    info, stub = f"{name}-{version}.dist-info", f"{name}-while-built"
    wheel_name = f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}-lent.pth": f"/lent\n{stub}\n",
        f"{stub}/{name}/__init__.py": f"from {name} import version\n__version__ = {version!r}\n",
        f"{stub}/{name}/version.py": "cuda = None\n",
        f"{info}/METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            + [f"Requires-Dist: {line}" for line in needed]
        )
        + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    folder = Path(sys.argv[2], name)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / wheel_name, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
    (folder / "index.html").write_text(f'<a href="{wheel_name}">{wheel_name}</a>')
