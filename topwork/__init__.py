"""The public contract of Topwork: a client, the shapes of its API and its errors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topwork import errors as errors
    from topwork import kinds as kinds
    from topwork import types as types
    from topwork.client import AsyncTopwork as AsyncTopwork
    from topwork.client import Topwork as Topwork

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only then: processes that need the errors alone are many."""
    if name in ("AsyncTopwork", "Topwork"):
        return getattr(import_module("topwork.client"), name)
    if name in ("errors", "kinds", "types"):
        return import_module(f"topwork.{name}")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
