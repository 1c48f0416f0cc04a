"""money.md §6, notices of transfers and their reversals: whichever comes first says what has happened."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.actor import SYSTEM
from supply.settlement import service
from supply.settlement.disputes.stages import Stage
from supply.settlement.reversing import recover_debts
from tests.fixtures.buying import Bought, bought, deaf, paid_out
from tests.services.api.conftest import Paying

MERCHANT, SUPPLIER = 5_407, 3_500
"""Of ¥105.00: 10,500 less 1,150 tax, 443 fee (5 % of 8,850), 3,000 cost and 500 shipping."""


async def told(order: Bought, type: str, about: str) -> None:
    for raw in order.notices(type, about=about):
        assert (await order.tell(raw)).status_code == 200
    await order.work()


async def unheard_payout(order: Bought) -> dict[str, Any]:
    """The merchant's payout was transferred and the answer lost; the transfer at the provider."""
    shopper, clock, db = order.shopper, order.shopper.clock, order.shopper.db
    merchant, account = shopper.shop.promotion.merchant.brand_id, shopper.provider.account(country="CN")["id"]
    shopper.provider.funded(50_000, "cny")
    async with db.unit_of_work(SYSTEM) as session:
        await service.register_payee(
            session, str(merchant), currency="CNY", account_id=account, now=clock.now()
        )
    await service.collect_fees(db, payments=shopper.served.gateways.payments, clock=clock)
    clock.advance(timedelta(days=46))
    await service.funds_available(db, clock=clock)
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="c1", clock=clock)
    shopper.provider.fault("drop_response", match={"operation": "transfers.create"})
    async with deaf(shopper.provider) as payments:
        assert await service.send_payouts(db, payments=payments, clock=clock) == 1
    assert (await order.balances())["merchant"].in_payout_minor == MERCHANT
    (transfer,) = shopper.provider.get("/v1/transfers", destination=account).json()["data"]
    found: dict[str, Any] = transfer
    return found


async def test_out_of_order_transfer_reversed_before_created(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    transfer = await unheard_payout(order)
    paying_shopper.provider.ok(f"/v1/transfers/{transfer['id']}/reversals", amount=1_000)  # by hand, past us

    for type in ("transfer.reversed", "transfer.created", "transfer.reversed"):
        await told(order, type, transfer["id"])

    merchant = (await order.balances())["merchant"]
    # Paid 5,407, and 1,000 of it came back: it owed nothing, so it has them again.
    assert (merchant.in_payout_minor, merchant.available_minor, merchant.receivable_minor) == (0, 1_000, 0)
    assert await paying_shopper.one("SELECT status || reversed_minor FROM payouts") == "paid1000"
    assert await paying_shopper.one("SELECT count(*) FROM recoveries") == 1
    assert await paying_shopper.one("SELECT count(*) FROM ledger_journals WHERE kind = 'payout_settled'") == 1
    await order.hold()


async def test_two_reversals_made_past_us_are_each_booked_once(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    transfer = await unheard_payout(order)
    for amount in (1_000, 234):
        paying_shopper.provider.ok(f"/v1/transfers/{transfer['id']}/reversals", amount=amount)
    paying_shopper.receiver.wait("transfer.reversed", about=transfer["id"], count=2)

    await told(order, "transfer.reversed", transfer["id"])

    assert (await order.balances())["merchant"].available_minor == 1_234
    assert await paying_shopper.one("SELECT reversed_minor FROM payouts") == 1_234
    await order.hold()


async def test_response_to_a_reversal_lost_its_notice_settles_it(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await paid_out(order)
    opened = paying_shopper.provider.admin("POST", "/disputes", charge=order.charge_id)
    paying_shopper.provider.admin("POST", f"/disputes/{opened['id']}/close", status="lost")
    await told(order, "charge.dispute.closed", opened["id"])
    assert await paying_shopper.one("SELECT stage FROM disputes") == Stage.LOST
    paying_shopper.clock.advance(timedelta(days=4))
    paying_shopper.provider.fault("drop_response", count=2, match={"operation": "transfers.reverse"})
    async with deaf(paying_shopper.provider) as payments:
        assert await recover_debts(paying_shopper.db, payments=payments, clock=paying_shopper.clock) == 0
    assert {b.receivable_minor for b in (await order.balances()).values()} == {MERCHANT, SUPPLIER}
    paying_shopper.receiver.wait("transfer.reversed", count=2)

    for _ in range(2):
        await told(order, "transfer.reversed", "")

    assert {b.net_minor for b in (await order.balances()).values()} == {0}
    assert await paying_shopper.one("SELECT count(*) FROM recoveries WHERE status = 'done'") == 2
    gateways = paying_shopper.served.gateways
    paying_shopper.clock.advance(timedelta(hours=25))
    assert await recover_debts(gateways.db, payments=gateways.payments, clock=paying_shopper.clock) == 0
    await order.hold()
