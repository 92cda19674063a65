"""What every test may ask of a service after whatever it did to it."""

from core import garbage, invariants, leftovers
from core.resources import Resources


def broken(resources: Resources, grace: float = invariants.DAY) -> list[str]:
    """Return every invariant that does not hold, in words; the service may be running."""
    return [str(violation) for violation in invariants.check(resources, grace)]


def broken_after_tidying(resources: Resources) -> list[str]:
    """The same for a service at rest: after one collection nothing at all may be left over."""
    leftovers.tidy(resources)
    garbage.collect(resources, 0.0)
    return broken(resources, grace=0.0)
