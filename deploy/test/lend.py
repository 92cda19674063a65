"""Make wheels of torch and torchvision, `+cpu` builds, that hold one path: that of installed ones.

`lend.py SITE_PACKAGES INDEX`: the images then mount that folder as /lent and need no download.
"""

import re
import sys
import zipfile
from pathlib import Path

for name in ("torch", "torchvision"):
    (found,) = Path(sys.argv[1]).glob(f"{name}-*.dist-info")
    version = re.sub(r"\+.*", "", found.name.removesuffix(".dist-info").split("-")[1]) + "+cpu"
    folder = Path(sys.argv[2], name)
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    wheel_name = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(folder / wheel_name, "w") as wheel:
        wheel.writestr(f"{name}-lent.pth", "/lent\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        files = (f"{name}-lent.pth", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    (folder / "index.html").write_text(f'<a href="{wheel_name}">{wheel_name}</a>')
