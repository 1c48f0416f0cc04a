"""One contract for paysim and for Stripe's test mode, both through ``stripe.StripeClient``.

The second runs when ``STRIPE_TEST_KEY`` is set; calls about connected accounts also need ``STRIPE_TEST_ACCOUNT``,
an onboarded one. Every answer passes Stripe's own types, every request that was accepted its parameters.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
import stripe

from infra.payments.stripe_gateway import StripeGateway
from tests.fixtures.stripe_calls import CALLS, ID

_PATH = Path(__file__).resolve().parents[3] / "paysim" / "conftest.py"
_NAME = "tests.paysim.conftest"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, _PATH)
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])
_suite = sys.modules[_NAME]
receiver, provider, paysim = _suite.receiver, _suite.provider, _suite.paysim

TEST_KEY, TEST_ACCOUNT = "STRIPE_TEST_KEY", "STRIPE_TEST_ACCOUNT"
RETURN_URL = "https://example.com/back"
PARAMETERS = [(verb, path.replace(ID, "[^/]+"), name) for verb, path, name in CALLS]


def nested(form: str) -> dict[str, Any]:
    """A form's names and values as the tree of typed parameters the contract describes."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        *parents, leaf = re.split(r"\[|\]\[", name.removesuffix("]"))
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        literal = {"true": True, "false": False}.get(value, value)
        node[leaf] = int(value) if re.fullmatch(r"-?\d+", value) else literal
    return {name: _lists(value) for name, value in tree.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key == "" or key.isdigit() for key in value):
        return [_lists(each) for each in value.values()]
    return {key: _lists(each) for key, each in value.items()}


class CheckedHttp(stripe.HTTPXClient):
    """Stripe's own transport; accepted requests and all answers are held against the contract."""

    async def request_async(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        content, status, answered = await super().request_async(method, url, headers, post_data)
        contract = _suite.CONTRACT
        if contract is not None and status < 300:
            where = httpx.URL(url)
            form = post_data or where.query.decode()
            for verb, path, name in PARAMETERS:
                if verb == method.upper() and re.fullmatch(path, where.path):
                    assert contract.request_problems(name, nested(form)) == [], (path, form)
            found = [
                problem
                for problem in contract.problems(json.loads(content))
                # Kinds of objects the contract does not describe.
                if "unknown object" not in problem
            ]
            assert found == [], where.path
        return content, status, answered


@dataclass(frozen=True)
class Either:
    """Whichever provider it is. ``own`` is paysim's process, None for Stripe."""

    client: stripe.StripeClient
    own: Any
    key: str
    base: str | None

    @property
    def v1(self) -> Any:
        return self.client.v1

    async def opened(self, amount: int = 10_388, **other: Any) -> Any:
        cards = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
        params = {"amount": amount, "currency": "usd", **cards, **other}
        return await self.v1.payment_intents.create_async(params)

    async def paid(self, amount: int = 10_388, *, card: str = "pm_card_visa", **other: Any) -> Any:
        return await self.opened(amount, confirm=True, payment_method=card, **other)

    async def funded(self, amount: int) -> None:
        """So much is available to transfer and to pay out."""
        await self.paid(amount, card="pm_card_bypassPending")

    async def payee(self) -> str:
        """A connected account that can receive transfers."""
        if self.own is None:
            if not (known := os.environ.get(TEST_ACCOUNT)):
                pytest.skip(f"{TEST_ACCOUNT} is not set")
            return known
        account = await self.v1.accounts.create_async(
            {
                "country": "US",
                "controller": {
                    "stripe_dashboard": {"type": "express"},
                    "fees": {"payer": "application"},
                    "losses": {"payments": "application"},
                },
                "capabilities": {"transfers": {"requested": True}},
            }
        )
        return str(account.id)

    async def refused(self, call: Any) -> Any:
        """The error of a call that must fail, with ``http_status``, ``code``, ``param`` and its type."""
        with pytest.raises(stripe.StripeError) as failure:
            await call
        return failure.value

    @staticmethod
    def fresh() -> str:
        return uuid.uuid4().hex


def _client(key: str, base: str | None, http: stripe.HTTPXClient) -> stripe.StripeClient:
    return stripe.StripeClient(
        key, base_addresses={"api": base} if base else None, http_client=http, max_network_retries=0
    )


@pytest.fixture(params=["paysim", "stripe"])
def which(request: pytest.FixtureRequest) -> tuple[str, str | None, Any]:
    """Secret key, address and paysim's process."""
    if request.param == "paysim":
        own = request.getfixturevalue("paysim")
        return _suite.SECRET_KEY, own.url, own
    if not (key := os.environ.get(TEST_KEY)):
        pytest.skip(f"{TEST_KEY} is not set")
    return key, None, None


@pytest.fixture
async def both(which: tuple[str, str | None, Any]) -> AsyncIterator[Either]:
    key, base, own = which
    http = CheckedHttp(timeout=30)
    yield Either(_client(key, base, http), own, key, base)
    await http.close_async()  # type: ignore[no-untyped-call]


@pytest.fixture
async def either(which: tuple[str, str | None, Any]) -> AsyncIterator[StripeGateway]:
    """The gateway in front of it."""
    key, base, _ = which
    gateway = StripeGateway(secret_key=key, webhook_secret="whsec_x", api_base=base)
    yield gateway
    await gateway.close()
