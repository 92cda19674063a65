"""Types of the wire format, a module for each noun; `types.Job` is `topwork.types.jobs.Job`.

Changes only add. A field that is added later has a default, so that answers of an older service can
be read; a field that is added to an answer is kept by a client that does not know it yet; a new
word of an enum comes to such a client as plain text. What a request may hold is closed: an unknown
field or word is refused by name.

Nothing is imported before it is asked for: the trainer needs `training` alone, and each shape costs
its part of a start.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from topwork.kinds import *

if TYPE_CHECKING:
    from topwork.types.architectures import *
    from topwork.types.batches import *
    from topwork.types.comparisons import *
    from topwork.types.datasets import *
    from topwork.types.evaluation import *
    from topwork.types.finetune import *
    from topwork.types.imports import *
    from topwork.types.jobs import *
    from topwork.types.keys import *
    from topwork.types.models import *
    from topwork.types.pages import *
    from topwork.types.predictions import *
    from topwork.types.problems import *
    from topwork.types.promotions import *
    from topwork.types.system import *
    from topwork.types.training import *
    from topwork.types.uploads import *
    from topwork.types.usage import *
    from topwork.types.values import *
    from topwork.types.webhooks import *


def __getattr__(name: str) -> Any:
    """Import all nouns when the first shape is asked for by its name alone."""
    if name[:1].isupper():
        for noun in iter_modules(globals()["__path__"], f"{__name__}."):
            shapes = vars(import_module(noun.name)).items()
            globals().update((key, shape) for key, shape in shapes if key[:1].isupper())
    if name in globals():
        return globals()[name]
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
