"""R11 against paysim as it runs: what is the platform's own reaches its bank, and comes back when the bank says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.money import Money
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement.parties import provider_account
from supply.settlement.platform_payouts import (
    PlatformFundsShort,
    PlatformPayoutChanged,
    own_funds,
    refresh_platform_payout,
    request_platform_payout,
    send_platform_payouts,
)

DAY = timedelta(days=1)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


async def platform_money(platform: Any) -> list[int]:
    """1010, 1030, 1020."""
    accounts = [
        provider_account(Code.PROVIDER_AVAILABLE, "stripe", "USD"),
        AccountKey(Code.PLATFORM_PAYOUT_IN_TRANSIT, "platform", "USD"),
        AccountKey(Code.BANK, "platform", "USD"),
    ]
    async with platform.db.reading(SYSTEM) as session:
        return [(await ledger.balance(session, account)).amount_minor for account in accounts]


async def earned(platform: Any, amount: int) -> None:
    """``amount`` came by a charge, is available, and all of it is fee revenue; the provider took 331."""
    await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    merchant = AccountKey(Code.PENDING, f"party:{platform.parties.merchant}", "USD")
    revenue = AccountKey(Code.FEE_REVENUE, "platform", "USD")
    legs = (debit(merchant, amount), credit(revenue, amount))
    async with platform.db.unit_of_work(SYSTEM) as session:
        now = platform.clock.now()
        await posting.post(session, Journal("gift", "release", legs, now), now=now)


async def ask(platform: Any, amount: int, reference: str = "march") -> Any:
    async with platform.db.unit_of_work(SYSTEM) as session:
        return await request_platform_payout(
            session, SYSTEM, usd(amount), reference=reference, now=platform.clock.now()
        )


async def send(platform: Any) -> int:
    return await send_platform_payouts(platform.db, payments=platform.payments, clock=platform.clock)


async def test_only_what_nobody_else_is_owed_can_be_paid_out(platform: Any) -> None:
    await earned(platform, 1_000)
    async with platform.db.reading(SYSTEM) as session:
        # 10,057 are here; 10,388 less the 1,000 are owed to parties, tax and deferred fees.
        assert await own_funds(session, "USD") == usd(10_057 - 9_388)

    with pytest.raises(PlatformFundsShort):
        await ask(platform, 670)
    await ask(platform, 600)
    with pytest.raises(PlatformFundsShort):  # 69 are left of it
        await ask(platform, 70, "april")


async def test_a_platform_payout_is_sent_once_and_arrives(platform: Any) -> None:
    await earned(platform, 1_000)
    first = await ask(platform, 600)
    assert await ask(platform, 600) == first
    with pytest.raises(PlatformPayoutChanged):
        await ask(platform, 601)

    assert await send(platform) == 1
    assert await send(platform) == 0
    assert await platform_money(platform) == [9_457, 600, 0]
    assert (await platform.reconcile()).ok

    platform.clock.advance(2 * DAY)
    (payout,) = platform.paysim.get("/v1/payouts").json()["data"]
    for _ in range(2):
        assert await refresh_platform_payout(
            platform.db, payout["id"], payments=platform.payments, clock=platform.clock
        )
    assert await platform_money(platform) == [9_457, 0, 600]
    report = await platform.reconcile()
    assert report.ok, report


@pytest.mark.parametrize("arrived_before", [False, True])
async def test_a_payout_the_bank_sends_back_is_at_the_provider_again(
    platform: Any, arrived_before: bool
) -> None:
    await earned(platform, 1_000)
    await ask(platform, 600)
    await send(platform)
    (payout,) = platform.paysim.get("/v1/payouts").json()["data"]
    if arrived_before:
        platform.clock.advance(2 * DAY)
        await send(platform)
        assert await platform_money(platform) == [9_457, 0, 600]
    platform.paysim.admin("POST", f"/payouts/{payout['id']}/fail", code="account_closed")

    platform.clock.advance(DAY)
    await refresh_platform_payout(platform.db, payout["id"], payments=platform.payments, clock=platform.clock)

    assert await platform_money(platform) == [10_057, 0, 0]
    report = await platform.reconcile()
    assert report.ok, report


async def test_a_payout_whose_answer_was_lost_is_sent_under_the_same_key(platform: Any) -> None:
    await earned(platform, 1_000)
    await ask(platform, 600)
    platform.paysim.fault("drop_response", match={"operation": "payouts.create"}, count=3)
    await send(platform)
    platform.paysim.admin("DELETE", "/faults")
    platform.clock.advance(timedelta(hours=1))

    await send(platform)

    assert len(platform.paysim.get("/v1/payouts").json()["data"]) == 1
    assert await platform_money(platform) == [9_457, 600, 0]
