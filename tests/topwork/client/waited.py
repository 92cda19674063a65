"""The asynchronous client behind the face of the other one, so that one script tries both."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from topwork import AsyncTopwork


class Waited:
    """Calls a method and waits for what it answers, in an event loop of its own."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target, self._runner = target, runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.ismethod(value):
            return lambda *given, **named: self._settled(value(*given, **named))
        return self._settled(value)

    def __enter__(self) -> Self:
        self._runner.run(self._target.__aenter__())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._runner.run(self._target.__aexit__())
        self._runner.close()

    def _settled(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        if isinstance(value, AsyncIterator):
            return self._items(value)
        ours = type(value).__module__.startswith("topwork.client.asynchronous.")
        return Waited(value, self._runner) if ours else value

    def _items(self, source: AsyncIterator[Any]) -> Iterator[Any]:
        while (item := self._runner.run(anext(source, None))) is not None:
            yield self._settled(item)


def waited(*given: Any, **named: Any) -> Waited:
    """Make an asynchronous client as `Topwork` is made."""
    return Waited(AsyncTopwork(*given, **named), asyncio.Runner())
