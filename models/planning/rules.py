"""The rule engine of the recipe: carries out a table of rules on the draft of a plan.

Of the rules of a field the first one whose condition holds decides, unless the user has asked for
something. Texts are templates in which `{draft...}` stands for what the draft says.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.planning.draft import AUTO, Draft
from topwork.errors import InvalidField

GIVEN = "as given"


@dataclass(frozen=True)
class Condition:
    """Something that holds for a draft or does not; `&` demands two of them."""

    holds: Callable[[Draft], bool]

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(lambda draft: self.holds(draft) and other.holds(draft))


ELSE = Condition(lambda _: True)


class Rule(NamedTuple):
    """A row of the recipe: under this condition a field has this value, for this reason.

    The value may be a function of the draft. Without a reason, the field is none that a plan shows.
    A `binding` rule holds whatever the user asked for.
    """

    when: Condition
    value: Any
    reason: str = ""
    binding: bool = False


class Contradiction(NamedTuple):
    """What cannot be asked for together."""

    when: Condition
    message: str
    param: str
    hint: str | None = None


def decide(draft: Draft, recipe: Mapping[str, Iterable[Rule]]) -> None:
    """Decide each field in the order of the recipe."""
    for field, rules in recipe.items():
        rule = next(rule for rule in rules if rule.when.holds(draft))
        value, reason = draft.asked(field), GIVEN
        if value == AUTO or rule.binding:
            value = rule.value(draft) if callable(rule.value) else rule.value
            reason = rule.reason
        setattr(draft, field, value)
        if reason:
            draft.reasons[field] = reason.format(draft=draft)


def refuse(draft: Draft, contradictions: Iterable[Contradiction]) -> None:
    """Raise InvalidField for the first contradiction that holds."""
    for when, message, param, hint in contradictions:
        if when.holds(draft):
            raise InvalidField(message.format(draft=draft), param=param, hint=hint)
