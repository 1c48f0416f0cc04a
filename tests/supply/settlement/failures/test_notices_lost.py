"""money.md §6, webhooks that never arrive and that nobody would ask about: found in the provider's list of events."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from core.actor import SYSTEM
from core.money import Money
from marketplace.orders import missed_notices, notices
from marketplace.orders.missed_notices import find_missed_notices
from marketplace.orders.models import RefundCause, RefundStatus
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import platform_payouts
from supply.settlement.disputes.stages import Stage
from supply.settlement.parties import platform_account, provider_account
from tests.factories.ledger import NOON
from tests.fixtures.buying import Bought, bought, signed
from tests.services.api.conftest import Paying

NOTICED_AFTER = timedelta(minutes=3)


async def find(shopper: Paying) -> int:
    """What the sweep does, and the worker after it. How many events nobody had told."""
    gateways, found = shopper.served.gateways, 0
    while new := await find_missed_notices(gateways.db, payments=gateways.payments, clock=gateways.clock):
        found += new
    await shopper.served.work()
    return found


def listed(shopper: Paying, type: str) -> list[bytes]:
    """Events of a type as the provider lists them, which is how it would have told them."""
    rows = shopper.provider.get("/v1/events", type=type, limit=100).json()["data"]
    return [json.dumps(row).encode() for row in rows]


async def deaf_shop(paying_shopper: Paying) -> Bought:
    order = await bought(paying_shopper)
    paying_shopper.clock.advance(NOTICED_AFTER)
    await find(paying_shopper)
    paying_shopper.provider.fault("webhook_drop", count=None)
    return order


async def test_a_refund_made_past_us_that_nobody_told_of(paying_shopper: Paying) -> None:
    order = await deaf_shop(paying_shopper)
    paying_shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    assert await find(paying_shopper) == 0  # its notice may still come
    paying_shopper.clock.advance(NOTICED_AFTER)

    assert await find(paying_shopper) > 0
    assert await find(paying_shopper) == 0

    (refund,) = await order.refunds()
    assert (refund.amount, refund.cause) == (Money(1_000, "CNY"), RefundCause.MADE_AT_PROVIDER)
    for raw in listed(paying_shopper, "refund.created"):  # three days late, it comes after all
        assert (await order.tell(raw)).status_code == 200
    await order.work()
    assert len(await order.refunds()) == 1
    await order.hold()


async def test_a_dispute_won_long_after_it_was_lost_that_nobody_told_of(paying_shopper: Paying) -> None:
    order = await deaf_shop(paying_shopper)
    opened = paying_shopper.provider.admin("POST", "/disputes", charge=order.charge_id)
    paying_shopper.provider.admin("POST", f"/disputes/{opened['id']}/close", status="lost")
    paying_shopper.clock.advance(NOTICED_AFTER)
    await find(paying_shopper)
    assert await paying_shopper.one("SELECT stage FROM disputes") == Stage.LOST
    paying_shopper.clock.advance(timedelta(days=20))
    paying_shopper.provider.admin("POST", f"/disputes/{opened['id']}/close", status="won")
    paying_shopper.clock.advance(NOTICED_AFTER)

    assert await find(paying_shopper) > 0

    assert await paying_shopper.one("SELECT stage FROM disputes") == Stage.WON
    assert {b.reserved_minor for b in (await order.balances()).values()} == {0}
    await order.hold()


async def test_a_payout_of_the_platform_that_came_back_that_nobody_told_of(paying_shopper: Paying) -> None:
    await deaf_shop(paying_shopper)
    shopper, clock, gateways = paying_shopper, paying_shopper.clock, paying_shopper.served.gateways
    shopper.provider.funded(9_000, "cny")
    async with shopper.db.unit_of_work(SYSTEM) as session:
        await posting.post(session, own_money(9_000), now=clock.now())
        await platform_payouts.request_platform_payout(
            session, SYSTEM, Money(5_000, "CNY"), reference="march", now=clock.now()
        )
    for days in (0, 3):
        clock.advance(timedelta(days=days, minutes=11))
        await platform_payouts.send_platform_payouts(gateways.db, payments=gateways.payments, clock=clock)
    assert await shopper.one("SELECT status FROM platform_payouts") == "arrived"
    await find(shopper)
    payout = await shopper.one("SELECT payout_id FROM platform_payouts")
    shopper.provider.admin("POST", f"/payouts/{payout}/fail")
    clock.advance(NOTICED_AFTER)

    assert await find(shopper) > 0

    assert await shopper.one("SELECT status FROM platform_payouts") == "returned"


def own_money(amount: int) -> Journal:
    """The provider holds ``amount`` that is nobody else's."""
    held = provider_account(Code.PROVIDER_AVAILABLE, "stripe", "CNY")
    revenue = platform_account(Code.FEE_REVENUE, "CNY")
    return Journal("own", "release", (debit(held, amount), credit(revenue, amount)), NOON)


async def test_a_notice_and_the_list_at_once_are_one(paying_shopper: Paying) -> None:
    order = await deaf_shop(paying_shopper)
    made = paying_shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    paying_shopper.clock.advance(NOTICED_AFTER)
    raw = next(each for each in listed(paying_shopper, "refund.created") if made["id"].encode() in each)
    header = signed(raw, paying_shopper.clock.now().timestamp())

    await asyncio.gather(
        *(paying_shopper.tell(raw, header) for _ in range(5)), *(find(paying_shopper) for _ in range(3))
    )
    await order.work()

    told = "SELECT count(*) FROM outbox WHERE name = 'orders.provider_notified' AND body->>'event_id' = "
    assert await paying_shopper.one(f"{told}'{json.loads(raw)['id']}'") == 1
    assert [each.status for each in await order.refunds()] == [RefundStatus.SUCCEEDED]
    await order.hold()


async def test_what_the_provider_did_not_list_is_read_the_next_time(paying_shopper: Paying) -> None:
    order = await deaf_shop(paying_shopper)
    shopper, gateways = paying_shopper, paying_shopper.served.gateways
    seen = "SELECT seen_to FROM provider_event_cursors"
    before = await shopper.one(seen)
    shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    shopper.clock.advance(timedelta(days=6))
    shopper.provider.fault("server_error", count=None, match={"path": "/v1/events"})
    assert await find_missed_notices(gateways.db, payments=gateways.payments, clock=shopper.clock) == 0
    assert await shopper.one(seen) == before

    shopper.provider.admin("DELETE", "/faults")
    assert await find(shopper) > 0
    assert await shopper.one(seen) > before
    assert len(await order.refunds()) == 1


def test_every_kind_that_is_listed_has_a_handler_and_fits_into_one_question() -> None:
    assert len(set(missed_notices.TYPES)) == len(missed_notices.TYPES) <= 20
    assert all(notices.handler_of(type) for type in missed_notices.TYPES)
    groups = {name for name in notices.NEWS if name.endswith(".")}
    assert {next((g for g in groups if type.startswith(g)), type) for type in missed_notices.TYPES} == set(
        notices.NEWS
    )
