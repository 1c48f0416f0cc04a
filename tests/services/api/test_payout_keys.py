"""The mutations that pay out take a key: the same one has one effect and one answer."""

from __future__ import annotations

from typing import Any

from core.actor import SYSTEM
from marketplace.brands import service as brands
from marketplace.brands.models import TenantKind
from tests.conftest import TestDatabase
from tests.factories.brands import signed_up
from tests.fixtures.http import codes_of, state_of
from tests.services.api.conftest import Paying

ACCOUNT = """mutation ($i: PayoutAccountCreateInput!) { payoutAccountCreate(input: $i) {
  payee { id currencyCode accountId } onboardingUrl userErrors { code } } }"""
RUN = "mutation ($i: PayoutRunInput!) { payoutRun(input: $i) { batchId userErrors { code } } }"


async def _keyed(
    shopper: Paying,
    postgres: TestDatabase,
    token: str,
    document: str,
    given: dict[str, Any],
    other: dict[str, Any],
) -> None:
    async def ask(key: str, facts: dict[str, Any]) -> dict[str, Any]:
        return await shopper.served.brand(document, {"i": {**facts, "idempotencyKey": key}}, token=token)

    first = await ask("k1", given)
    assert codes_of(first) == []
    done = await state_of(postgres)
    assert await ask("k1", given) == first
    assert codes_of(await ask("k1", other)) == ["IDEMPOTENCY_KEY_REUSED"]
    assert codes_of(await ask("", given)) == ["IDEMPOTENCY_KEY_MISSING"]
    assert await state_of(postgres) == done


async def test_a_payout_account_is_opened_once(paying_shopper: Paying, postgres: TestDatabase) -> None:
    merchant = paying_shopper.shop.promotion.merchant
    async with paying_shopper.db.unit_of_work(merchant) as session:
        issued = await brands.issue_token(
            session, merchant, name="t", scopes=["settlement:read", "settlement:write"], expires_at=None,
            clock=paying_shopper.clock,
        )  # fmt: skip
    given = {"currencyCode": "CNY", "returnUrl": "https://me.example.com/done"}
    await _keyed(paying_shopper, postgres, issued.token, ACCOUNT, given, {**given, "currencyCode": "USD"})


async def test_a_payout_cycle_is_run_once(paying_shopper: Paying, postgres: TestDatabase) -> None:
    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        operator = await signed_up(session, paying_shopper.clock, TenantKind.PLATFORM, name="Lianyu")
    given = {"cycle": "2026-03-02"}
    await _keyed(paying_shopper, postgres, operator.token, RUN, given, {"cycle": "2026-03-03"})
