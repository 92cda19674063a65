"""Orders of images, and a predictor in this process that takes them."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from PIL import Image

from app.predictor.metrics import Measures
from app.predictor.service import Predictor
from app.predictor_protocol import Order
from core.store.object_store import Storage
from core.system.settings import Settings
from tests.app.conftest import MakeModel

Stored = tuple[Storage, MakeModel]


def png(level: int = 0) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").rotate(level).convert("RGB").save(out, "PNG")
    return out.getvalue()


def order(model: dict[str, Any], *images: bytes, **more: Any) -> tuple[Order, bytes]:
    sizes = [len(image) for image in images]
    names = [f"{number}.png" for number in range(len(images))]
    fields = {"model": model, "top_k": 3, "sizes": sizes, "filenames": names, **more}
    return Order.model_validate_json(json.dumps(fields)), b"".join(images)


def trial(
    stored: Stored,
    data: Path,
    work: Callable[[Predictor], Awaitable[None]],
    measures: Measures | None = None,
    **options: Any,
) -> None:
    settings = Settings(data_dir=data, offline=True, **options)

    async def run() -> None:
        predictor = Predictor(settings, stored[0], measures or Measures())
        try:
            await asyncio.wait_for(work(predictor), 60)
        finally:
            await predictor.close()

    asyncio.run(run())
