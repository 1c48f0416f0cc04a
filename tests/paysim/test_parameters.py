"""paysim knows exactly the parameters Stripe's client types for the calls we make."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.paysim.routes import ROUTES
from tests.fixtures.stripe_calls import CALLS, ID

FROM_BROWSERS = {"client_secret", "key"}
"""What a browser proves itself with; Stripe's server library does not type it."""


@pytest.mark.shared
@pytest.mark.parametrize(("verb", "path", "params"), CALLS, ids=[name for _, _, name in CALLS])
def test_no_parameter_is_missing_or_made_up(contract: Any, verb: str, path: str, params: str) -> None:
    (route,) = [r for r in ROUTES if (r.verb, re.sub(r"\{\w+\}", ID, r.path)) == (verb, path)]
    assert route.shape.keys() - FROM_BROWSERS == contract.REQUESTS[params].keys()


def test_every_operation_has_a_name_of_its_own_that_switches_can_use() -> None:
    names = [route.operation for route in ROUTES]
    assert len(names) == len(set(names))
    assert {"refunds.create", "intents.confirm", "transfers.reverse", "payouts.create"} <= set(names)
