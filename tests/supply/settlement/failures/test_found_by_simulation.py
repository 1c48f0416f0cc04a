"""What seeds of `lianyu simulate money` have found, each as short as it can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.money import Money
from infra.db.session import Database, make_engine
from infra.payments.gateway import BalanceTransaction, Event, Refund
from marketplace.orders import notices, refund_sending
from marketplace.orders.events import ProviderNotified
from marketplace.orders.models import RefundStatus
from services.simulate.kill import KillableDatabase, Killed, KillSwitch
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement import platform_payouts, provider_funds, service
from supply.settlement.currency_positions import Conversion, record_conversion
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account
from tests.factories.settlement import PAID_AT
from tests.fixtures.buying import bought
from tests.services.api.conftest import Paying


async def test_a_refund_made_past_us_is_not_made_again_by_a_worker_killed_after_adopting_it(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    made = paying_shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    gateways, switch = paying_shopper.served.gateways, KillSwitch()
    url = gateways.db.engine.url.render_as_string(hide_password=False)
    killable = KillableDatabase(make_engine(url, pool_size=1), switch)
    switch.set(4)  # nobody's debt; the adoption is committed, its answer is not applied
    with pytest.raises(Killed):
        await refund_sending.on_refund(
            killable, ProviderNotified("evt_1", "refund.created", made["id"]), payments=gateways.payments,
            clock=paying_shopper.clock,
        )  # fmt: skip
    await killable.close()
    assert [each.status for each in await order.refunds()] == [RefundStatus.PENDING]

    for _ in range(3):
        paying_shopper.clock.advance(timedelta(hours=1))
        await refund_sending.sweep_refunds(
            gateways.db, payments=gateways.payments, clock=paying_shopper.clock
        )

    assert order.at_provider() == [(1_000, "succeeded")]
    assert [each.status for each in await order.refunds()] == [RefundStatus.SUCCEEDED]
    await order.hold()


async def test_a_charge_whose_fee_eats_all_of_it_does_not_keep_others_from_becoming_available(
    db: Database, clock: FixedClock
) -> None:
    clock.at = PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        for charge, amount in (("ch_1", 30), ("ch_2", 10_388)):
            await service.register_charge(
                session, charge, provider="stripe", currency="CNY", captured_at=PAID_AT
            )
            word = BalanceTransaction(
                f"txn_{charge}", "charge", "charge", charge, amount, 30, amount - 30, "CNY", "pending", None, PAID_AT,
                PAID_AT + timedelta(days=2),
            )  # fmt: skip
            await provider_funds.record_fee(session, charge, word, now=PAID_AT)
    clock.advance(timedelta(days=3))

    assert await service.funds_available(db, clock=clock) == 2
    assert await service.funds_available(db, clock=clock) == 0


class Desk:
    """A provider where somebody refunded a charge that is not in our books (yet)."""

    asked = 0

    async def retrieve_refund(self, refund_id: str) -> Refund:
        self.asked += 1
        return Refund(refund_id, 2_927, "JPY", "succeeded", "ch_elsewhere", None, None, None, PAID_AT)


@pytest.mark.parametrize(
    ("between", "tries"),
    [
        # Nobody worked meanwhile: that is no trying. The twelfth time is the last.
        (timedelta(days=4), 12),
        # 67 times 64 minutes are less than three days, 68 times are more.
        (timedelta(minutes=64), 68),
    ],
)
async def test_a_notice_is_given_up_after_three_days_of_trying(
    db: Database, clock: FixedClock, between: timedelta, tries: int
) -> None:
    desk: Any = Desk()
    event = Event("evt_1", "refund.created", clock.now(), "refund", "re_1", None, {})
    async with db.unit_of_work(SYSTEM) as session:
        await notices.receive(session, event, now=clock.now())
    for _ in range(tries + 3):
        clock.advance(between)
        await notices.sweep_notices(db, payments=desk, clock=clock)

    assert desk.asked == tries


async def test_the_platform_cannot_pay_itself_what_converted_money_parties_are_owed(
    db: Database, clock: FixedClock
) -> None:
    """R10: EUR 90.00 of a customer, all of it owed, lie with the provider as USD 97.20; USD 3.00 are the platform's."""
    legs = (
        debit(provider_account(Code.PROVIDER_AVAILABLE, "stripe", "EUR"), 9_000),
        credit(AccountKey(Code.AVAILABLE, "party:p1", "EUR"), 9_000),
    )
    own = (
        debit(provider_account(Code.PROVIDER_AVAILABLE, "stripe", "USD"), 300),
        credit(platform_account(Code.FEE_REVENUE, "USD"), 300),
    )
    conversion = Conversion(
        "txn_1", "stripe", Money(9_000, "EUR"), Money(9_720, "USD"), Code.PROVIDER_AVAILABLE, PAID_AT
    )
    async with db.unit_of_work(SYSTEM) as session:
        for key, each in (("capture", legs), ("fee", own)):
            await ledger.post(session, Journal(key, Kind.CAPTURE, each, PAID_AT), now=PAID_AT)
        await record_conversion(session, conversion, now=PAID_AT)

        assert await platform_payouts.own_funds(session, "USD") == Money(300, "USD")
        assert await platform_payouts.own_funds(session, "EUR") == Money(0, "EUR")
