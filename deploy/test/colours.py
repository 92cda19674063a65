"""Write a zip of two classes of noisy colours to standard output: data for the stack's test."""

import io
import random
import sys
import zipfile

from PIL import Image

file = io.BytesIO()
with zipfile.ZipFile(file, "w") as archive:
    for folder, colour in {"red": (200, 40, 40), "blue": (40, 40, 200)}.items():
        for number in range(40):
            image = io.BytesIO()
            noisy = tuple(value + random.randrange(-40, 40) for value in colour)  # noqa: S311 - no secret.
            Image.new("RGB", (64, 64), noisy).save(image, "PNG")
            archive.writestr(f"{folder}/{number}.png", image.getvalue())
sys.stdout.buffer.write(file.getvalue())
