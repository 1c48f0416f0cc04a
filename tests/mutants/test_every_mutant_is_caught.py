"""The checks of the books are themselves checked: every fault that is put into a recipe must be seen."""

from __future__ import annotations

import pytest

from infra.db.session import Database
from tests.mutants.registry import MUTANTS, Mutant
from tests.mutants.scenarios import Stage

_SCENARIOS = sorted({mutant.scenario for mutant in MUTANTS}, key=lambda scenario: scenario.__name__)


@pytest.mark.parametrize("scenario", _SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_a_scenario_passes_with_the_recipes_as_they_are(db: Database, scenario: object) -> None:
    await scenario(Stage(db))  # type: ignore[operator]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
async def test_every_mutant_is_caught(db: Database, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an invariant, by a figure, or because the ledger itself refuses what the fault would have booked."""
    right = getattr(mutant.module, mutant.attribute)
    monkeypatch.setattr(mutant.module, mutant.attribute, mutant.wrong(right))
    with pytest.raises(Exception) as seen:
        await mutant.scenario(Stage(db))
    assert not isinstance(seen.value, (TypeError, AttributeError, KeyError)), "the mutant does not run"
