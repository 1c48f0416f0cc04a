from __future__ import annotations

from supply.settlement.kinds import Kind
from supply.settlement.recipes import RECIPES, recipe_of


def test_every_kind_of_journal_can_be_told() -> None:
    assert set(RECIPES) == set(Kind)
    assert recipe_of("capture").code == "R1"
    assert recipe_of("of_a_newer_release").text == "of a newer release"
