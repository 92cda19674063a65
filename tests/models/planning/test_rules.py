"""The engine of the recipe, and that the recipe has no row that nothing reaches."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from models.planning import catalogue, defaults, rules, strategy
from models.planning.draft import Draft
from models.planning.rules import ELSE, GIVEN, Condition, Contradiction, Rule
from tests.models.planning.configurations import configurations
from topwork.errors import InvalidField
from topwork.types.training import TrainConfig

NEVER = Condition(lambda _: False)


def draft(**config: Any) -> Draft:
    asked = TrainConfig.model_validate({"architecture": "resnet18", **config})
    summary = {"classes": ["a", "b"], "counts": {"train": {"a": 4, "b": 8}}}
    return Draft(asked, catalogue.get("resnet18"), summary, None)


def decided(*table: Rule, **config: Any) -> tuple[Any, dict[str, str]]:
    plan = draft(**config)
    rules.decide(plan, {"label_smoothing": table})
    return vars(plan)["label_smoothing"], plan.reasons


def test_the_first_row_that_holds_decides() -> None:
    table = (Rule(NEVER, 0.1, "never"), Rule(ELSE, 0.2, "second"), Rule(ELSE, 0.3, "third"))
    assert decided(*table) == (0.2, {"label_smoothing": "second"})


def test_what_was_asked_for_goes_before_all_but_what_is_binding() -> None:
    row = Rule(ELSE, 0.2, "usual")
    assert decided(row, label_smoothing=0.4) == (0.4, {"label_smoothing": GIVEN})
    binding = row._replace(binding=True)
    assert decided(binding, label_smoothing=0.4) == (0.2, {"label_smoothing": "usual"})


def test_values_and_reasons_come_from_the_draft() -> None:
    row = Rule(ELSE, lambda plan: plan.skew, "{draft.skew:.1f} times, of {draft.images.train}")
    assert decided(row) == (2.0, {"label_smoothing": "2.0 times, of 12"})
    assert decided(Rule(ELSE, 0.2)) == (0.2, {})  # Without a reason it is not shown.


def test_braces_in_the_name_of_a_class_stay_what_they_are() -> None:
    plan = draft()
    plan.classes = ["{draft.config} left"]
    rules.decide(plan, {"head": (Rule(ELSE, "fc", "'{draft.sided}'"),)})
    assert plan.reasons == {"head": "'{draft.config} left'"}


def test_the_first_contradiction_is_told() -> None:
    table = [
        Contradiction(NEVER, "no", "head"),
        Contradiction(ELSE, "{draft.architecture.name}!", "weights", "Ask for less."),
        Contradiction(ELSE, "later", "devices"),
    ]
    with pytest.raises(InvalidField) as caught:
        rules.refuse(draft(), table)
    told = caught.value
    assert (told.message, told.param, told.hint) == ("resnet18!", "weights", "Ask for less.")


def test_a_field_is_not_read_before_its_turn() -> None:
    with pytest.raises(AttributeError):
        rules.decide(draft(), {"epochs": (Rule(ELSE, lambda plan: plan.steps, "too early"),)})


def counted(recipe: Mapping[str, Iterable[Rule]], hits: Counter[tuple[str, int]]) -> Any:
    """Return the recipe with rows that count how often they decide."""

    def row(field: str, number: int, rule: Rule) -> Rule:
        def holds(plan: Draft) -> bool:
            held = rule.when.holds(plan)
            hits[field, number] += held
            return held

        hits[field, number] = 0
        return rule._replace(when=Condition(holds))

    return {
        field: tuple(row(field, number, rule) for number, rule in enumerate(table))
        for field, table in recipe.items()
    }


def test_every_row_of_the_recipe_decides_for_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    hits: Counter[tuple[str, int]] = Counter()
    monkeypatch.setattr(defaults, "STAGE", counted(defaults.STAGE, hits))
    monkeypatch.setattr(strategy, "RULES", counted(strategy.RULES, hits))
    for name in ("googlenet", "lenet", "resnet18", "vit_b_16", "squeezenet1_1"):
        for asked in configurations(name, 60):
            asked.outcome()
    assert not [row for row, count in hits.items() if not count]
