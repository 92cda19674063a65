"""Keep loaded models up to a number of bytes; drop the one whose last use is longest ago."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Model = TypeVar("Model")


class ModelCache(Generic[Key, Model]):
    """Loads each model once, however many requests ask for it at the same time.

    Args:
        weigh: Returns the bytes that a model occupies.
        capacity: Bytes to keep; a single larger model is kept alone.
    """

    def __init__(
        self,
        weigh: Callable[[Model], int],
        capacity: int,
    ) -> None:
        self._weigh = weigh
        self._capacity = capacity
        self._models: OrderedDict[Key, Model] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Model]] = {}
        self.evictions = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded models."""
        return sum(map(self._weigh, self._models.values()))

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, key: Key) -> bool:
        return key in self._models

    async def get(self, key: Key, load: Callable[[], Awaitable[Model]]) -> Model:
        """Return a model, calling `load` if nobody did; raises what the load raised.

        The load is a task of its own, so a request that goes away does not take it from others.
        """
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        if key not in self._loading:
            task = asyncio.create_task(self._bring(key, load))
            self._loading[key] = task
            task.add_done_callback(lambda task: self._finish(key, task))
        return await asyncio.shield(self._loading[key])

    def _finish(self, key: Key, task: asyncio.Task[Model]) -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # Marks it as seen where every request that asked is gone.

    async def _bring(self, key: Key, load: Callable[[], Awaitable[Model]]) -> Model:
        model = await load()
        self._models[key] = model
        while len(self._models) > 1 and self.nbytes > self._capacity:
            # Requests under way hold the model they use; its memory goes with the last of them.
            self._models.popitem(last=False)
            self.evictions += 1
        return model
