"""The public contract of Topwork: a client, the shapes of its API and its errors.

from topwork import Topwork

with Topwork("http://127.0.0.1:8000") as topwork:
    job = topwork.finetune("flowers/", architecture="resnet18", name="flowers").wait()
    print(topwork.predict("rose.jpg", model="flowers")[0].label)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topwork import errors as errors
    from topwork import kinds as kinds
    from topwork import types as types
    from topwork.client.asynchronous.service import AsyncTopwork as AsyncTopwork
    from topwork.client.synchronous.service import Topwork as Topwork

__version__ = "0.1.0"

CLIENTS = {"AsyncTopwork": "asynchronous", "Topwork": "synchronous"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only then: processes that need the errors alone are many."""
    if name in CLIENTS:
        return getattr(import_module(f"topwork.client.{CLIENTS[name]}.service"), name)
    if name in ("errors", "kinds", "types"):
        return import_module(f"topwork.{name}")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
