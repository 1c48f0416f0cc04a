"""What seeds of `lianyu simulate money` have found, each as short as it can be told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database, make_engine
from infra.payments.gateway import BalanceTransaction
from marketplace.orders import refund_sending
from marketplace.orders.events import ProviderNotified
from marketplace.orders.models import RefundStatus
from services.simulate.kill import KillableDatabase, Killed, KillSwitch
from supply.settlement import provider_funds, service
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
    switch.set(2)  # the adoption is committed, its answer is not applied
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
