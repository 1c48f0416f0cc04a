"""The whole way of a payment: a shopper, the API, the worker's handlers, and the provider as it really runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.paysim.conftest import Paysim
from tests.services.api import conftest as suite

receiver, provider, paying_shopper = suite.receiver, suite.provider, suite.paying_shopper


@pytest.fixture(autouse=True)
def _without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """What one test breaks at the provider is whole for the next."""
    yield
    if "provider" in request.fixturenames:
        paysim: Paysim = request.getfixturevalue("provider")
        paysim.admin("DELETE", "/faults")
