"""Print the commands of a row of the table of a page: `documented.py PAGE ROW [FROM TO]...`.

Each FROM in them becomes its TO. A row that is not there, or a FROM that is in none, is an error.
"""

import re
import sys
from pathlib import Path

page, row, *words = sys.argv[1:]
(cell,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", Path(page).read_text(), re.MULTILINE)
commands = "\n".join(re.findall(r"`((?:docker|install) [^`]*)`", cell))
for old, new in zip(words[::2], words[1::2], strict=True):
    if old not in commands:
        sys.exit(f"'{row}' has no {old}: {cell}")
    commands = commands.replace(old, new)
sys.stdout.write(f"set -e\n{commands}\n")
