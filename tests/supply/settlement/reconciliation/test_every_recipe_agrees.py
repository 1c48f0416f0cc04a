"""What the other recipes book of the provider's money is matched without reconciliation knowing them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.ids import BrandId, RefundId
from core.money import Money
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement import service
from supply.settlement.at_source import paying
from supply.settlement.disputes import applying
from supply.settlement.late_payments import SentBack, post_late_payment
from supply.settlement.parties import party_account, platform_account
from supply.settlement.refunds import RefundPlan

DAY = timedelta(days=1)


async def ready(platform: Any, currency: str = "usd") -> Any:
    """A sale whose money is available, beside enough of the platform's own."""
    platform.paysim.funded(50_000, "usd")
    order = await platform.sale(currency)
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    return order


async def agrees(platform: Any, about: str) -> bool:
    """Everything of one thing at the provider is matched, and the sums hold."""
    report = await platform.reconcile()
    mine = [each for each in report.differences if each.reference == about]
    return not mine and not any(check.finding for check in report.balances)


@pytest.mark.parametrize("verdict", ["won", "lost"])
@pytest.mark.parametrize("amount", [None, 4_000])
async def test_a_dispute_from_withdrawal_to_verdict(platform: Any, verdict: str, amount: int | None) -> None:
    order = await ready(platform)
    options = {} if amount is None else {"amount": amount}
    dispute = platform.paysim.admin("POST", "/disputes", charge=order.charge_id, **options)

    async def refresh() -> None:
        await applying.refresh(platform.db, dispute["id"], payments=platform.payments, clock=platform.clock)

    await refresh()
    assert await agrees(platform, dispute["id"])
    platform.paysim.admin("POST", f"/disputes/{dispute['id']}/close", status=verdict)
    await refresh()
    assert await agrees(platform, dispute["id"])


async def test_a_disputed_charge_that_settled_in_another_currency(platform: Any) -> None:
    platform.paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.08"})
    order = await ready(platform, "eur")
    dispute = platform.paysim.admin("POST", "/disputes", charge=order.charge_id)
    await applying.refresh(platform.db, dispute["id"], payments=platform.payments, clock=platform.clock)
    assert await agrees(platform, dispute["id"])
    platform.paysim.admin("POST", f"/disputes/{dispute['id']}/close", status="won")
    await applying.refresh(platform.db, dispute["id"], payments=platform.payments, clock=platform.clock)
    assert await agrees(platform, dispute["id"])
    async with platform.db.reading(SYSTEM) as session:
        assert await ledger.unbalanced_journals(session) == 0


@pytest.mark.parametrize("currency", ["usd", "eur"])
@pytest.mark.parametrize(("verdict", "fee_back"), [("lost", False), ("won", False), ("won", True)])
async def test_a_payment_of_a_debt_that_the_bank_takes_back(
    platform: Any, currency: str, verdict: str, fee_back: bool
) -> None:
    """5.00 owed and paid. Taken back: 5.00 is owed again, and the fee of 15.00, in dollars, where it was taken."""
    platform.paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.08"})
    await ready(platform)
    brand, name = BrandId.new(), currency.upper()

    def account(code: Code, of: str) -> AccountKey:
        return party_account(code, str(brand), of, brand)

    async def holds(code: Code, of: str) -> int:
        async with platform.db.unit_of_work(SYSTEM) as session:
            return (await posting.hold(session, [account(code, of)]))[account(code, of)]

    async with platform.db.unit_of_work(SYSTEM) as session:
        legs = (
            debit(account(Code.RECEIVABLE, name), 500),
            credit(platform_account(Code.CHARGEBACK_LOSS, name), 500),
        )
        owing = Journal("owing", "adjusted", legs, platform.clock.now())
        await posting.post(session, owing, now=platform.clock.now())
    asked = await paying.pay_debt(platform.db, brand, name, payments=platform.payments, clock=platform.clock)
    platform.paysim.ok(f"/v1/payment_intents/{asked.intent_id}/confirm", payment_method="pm_card_visa")
    assert await paying.refresh(
        platform.db, asked.intent_id, payments=platform.payments, clock=platform.clock
    )
    await service.collect_fees(platform.db, payments=platform.payments, clock=platform.clock)
    platform.clock.advance(3 * DAY)
    assert await holds(Code.RECEIVABLE, name) == 0

    dispute = platform.paysim.admin("POST", "/disputes", charge=asked.intent_id)
    await applying.refresh(platform.db, dispute["id"], payments=platform.payments, clock=platform.clock)
    assert await agrees(platform, dispute["id"])
    fee = 1_500
    in_dollars = {"usd": 500 + fee, "eur": fee}[currency]
    assert (await holds(Code.RECEIVABLE, name), await holds(Code.RECEIVABLE, "USD")) == (
        {"usd": in_dollars, "eur": 500}[currency], in_dollars,
    )  # fmt: skip

    decided = {"status": verdict, "fee_back": fee_back}
    platform.paysim.admin("POST", f"/disputes/{dispute['id']}/close", **decided)
    await applying.refresh(platform.db, dispute["id"], payments=platform.payments, clock=platform.clock)
    assert await agrees(platform, dispute["id"])
    left = 0 if verdict == "won" else 500
    fees = 0 if fee_back else fee
    assert (await holds(Code.RECEIVABLE, name), await holds(Code.RECEIVABLE, "USD")) == (
        {"usd": left + fees, "eur": left}[currency], {"usd": left + fees, "eur": fees}[currency],
    )  # fmt: skip
    async with platform.db.reading(SYSTEM) as session:
        assert await ledger.unbalanced_journals(session) == 0


async def test_a_refund_the_bank_sends_back_after_it_was_paid(platform: Any) -> None:
    order = await ready(platform)
    refund_id = RefundId.new()
    now = platform.clock.now()
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.reserve_refund(session, RefundPlan(refund_id, order.order_id, everything=True), now=now)
    answer = await platform.payments.refund(charge_or_intent=order.charge_id, amount_minor=10_388, key="r")
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.settle_refund(session, refund_id, now=now, provider_ref=answer.id)
    assert await agrees(platform, answer.id)
    platform.paysim.admin("POST", f"/refunds/{answer.id}/fail")
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.void_refund(session, refund_id, now=now, provider_ref=answer.id)
    assert await agrees(platform, answer.id)


async def test_a_payment_that_came_too_late_and_went_back(platform: Any) -> None:
    await ready(platform)
    charge = await platform.charge(2_000)
    answer = await platform.payments.refund(charge_or_intent=charge, amount_minor=2_000, key="late")
    async with platform.db.unit_of_work(SYSTEM) as session:
        await post_late_payment(
            session, charge_id=charge, amount=Money(2_000, "USD"), sent_back=[SentBack(answer.id, 2_000)],
            captured_at=platform.clock.now(), now=platform.clock.now(),
        )  # fmt: skip
    assert await agrees(platform, charge)
    assert await agrees(platform, answer.id)
    async with platform.db.reading(SYSTEM) as session:
        trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial.get(Code.REFUND_PENDING, 0) == 0
