"""What comes back to a line that had ended is paid by a statement and a payout that hold it, and is expected then.

Orders of 10,000 at 10 %: 1,000, of which the promoter brand has 950 (500 where the platform's fee is a half). Delivered
on the 14th of March they are released on the 29th; March's statement is closed on the 1st of April.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CommissionLineId, OrderId, OrderLineId
from infra.db.session import Database
from marketplace.promotion.commission import denials
from marketplace.promotion.commission.nothing_to_pay import end_lines
from marketplace.promotion.directory.recording import count_records
from supply.settlement import service as settlement
from supply.settlement.models import PayeeStatus
from tests.marketplace.promotion.commission.shop import DAY, PAID_AT, PROMOTER, Shop

DELIVERED = PAID_AT + 4 * DAY
RELEASED = DELIVERED + 15 * DAY
APRIL, MAY, JUNE = (datetime(2026, month, 1, 1, tzinfo=UTC) for month in (4, 5, 6))
"""An hour after the month before is over."""
CLOSES = [datetime(2026, month, 1, 0, 5, tzinfo=UTC) for month in (4, 5)]
"""When the statements of March and April can be expected."""


async def _delivered(shop: Shop) -> tuple[OrderId, OrderLineId]:
    order = await shop.sells()
    shop.clock.at = DELIVERED
    await shop.delivers(*order)
    return order


async def _at(shop: Shop, at: datetime) -> None:
    """The sweeps pass at that hour, and everybody hears."""
    shop.clock.at = at
    await end_lines(shop.db, clock=shop.clock)
    await shop.settles()
    await shop.hears()


async def _line(db: Database, line_id: OrderLineId) -> Any:
    async with db.reading(SYSTEM) as session:
        found = await session.execute(
            text("SELECT * FROM commission_lines WHERE order_line_id = :id"), {"id": line_id}
        )
        return found.one()


async def _payouts(db: Database) -> list[tuple[datetime, int]]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(
            text("SELECT created_at, amount_minor FROM payouts WHERE payee_id = :payee ORDER BY created_at"),
            {"payee": str(PROMOTER.brand_id)},
        )
        return [(row.created_at, row.amount_minor) for row in rows]


async def _account(shop: Shop, status: PayeeStatus) -> None:
    async with shop.db.unit_of_work(SYSTEM) as session:
        await settlement.register_payee(
            session, str(PROMOTER.brand_id), currency="CNY", account_id="acct_1", now=shop.clock.now(),
            status=status,
        )  # fmt: skip


async def _deny(shop: Shop, line_id: OrderLineId, amount_minor: int) -> None:
    line = CommissionLineId.of((await _line(shop.db, line_id)).id)
    async with shop.db.unit_of_work(SYSTEM) as session:
        denied = await denials.deny_part(
            session, line, amount_minor, reference="rate:1", reason="DEVICE_REUSE", approved_by="usr_1",
            clock=shop.clock,
        )  # fmt: skip
        assert denied == amount_minor


async def _give_back(shop: Shop, line_id: OrderLineId) -> int:
    line = CommissionLineId.of((await _line(shop.db, line_id)).id)
    async with shop.db.unit_of_work(SYSTEM) as session:
        return await denials.give_back_part(
            session, line, reference="rate:1", reason="DEVICE_REUSE", approved_by="usr_1", clock=shop.clock
        )


async def test_no_payout_from_before_a_refund_failed_pays_the_line(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    refunded, kept = await _delivered(shop), await _delivered(shop)
    clock.at = DELIVERED
    later = await shop.sells()
    await _at(shop, RELEASED)
    refund = await shop.refunds(refunded[0], everything=True)
    await _at(shop, APRIL)
    assert await _payouts(db) == [(APRIL, 950)]
    assert [(await _line(db, line)).status for _, line in (refunded, kept)] == ["REVERSED", "PAID"]

    clock.at = APRIL + 2 * DAY
    await shop.refund_fails(refund)
    line = await _line(db, refunded[1])
    assert (line.status, line.confirmed_at, line.expected_pay_at) == ("CONFIRMED", clock.at, CLOSES[1])
    # Something else becomes the payee's: every open line of it is looked at.
    await shop.delivers(*later)
    await _at(shop, APRIL + 17 * DAY)
    assert [(await _line(db, line)).status for _, line in (refunded, later)] == ["CONFIRMED", "CONFIRMED"]

    await _at(shop, MAY)
    line = await _line(db, refunded[1])
    assert (line.status, line.payable_at, line.paid_at) == ("PAID", MAY, MAY)
    assert await _payouts(db) == [(APRIL, 950), (MAY, 1_900)]


@pytest.mark.parametrize("closed_between", [False, True])
async def test_a_line_of_a_closed_statement_is_paid_by_the_next_payout_that_holds_it(
    db: Database, clock: FixedClock, closed_between: bool
) -> None:
    """Both lines wait in March's statement for the payee's account. April's, closed while one is refunded, says 950."""
    shop = await Shop.opened(db, clock)
    await _account(shop, PayeeStatus.PENDING)
    refunded, kept = await _delivered(shop), await _delivered(shop)
    await _at(shop, RELEASED)
    await _at(shop, APRIL)
    assert [(await _line(db, line)).status for _, line in (refunded, kept)] == ["PAYABLE", "PAYABLE"]
    refund = await shop.refunds(refunded[0], everything=True)
    if closed_between:
        await _at(shop, MAY)

    clock.at += DAY
    await shop.refund_fails(refund)
    await _account(shop, PayeeStatus.ACTIVE)
    came_back = clock.at
    await _at(shop, came_back + DAY)
    line = await _line(db, refunded[1])
    assert (await _line(db, kept[1])).status == "PAID"
    if not closed_between:
        assert await _payouts(db) == [(came_back + DAY, 1_900)]
        assert (line.status, line.payable_at) == ("PAID", came_back)
        return
    assert await _payouts(db) == [(came_back + DAY, 950)]
    assert (line.status, line.confirmed_at, line.payable_at) == ("CONFIRMED", came_back, None)
    await _at(shop, JUNE)
    assert await _payouts(db) == [(came_back + DAY, 950), (JUNE, 950)]
    assert (await _line(db, refunded[1])).status == "PAID"


async def test_a_denial_given_back_waits_for_its_release_statement_and_payout(
    db: Database, clock: FixedClock
) -> None:
    """999 of 1,000 denied: the unit that is left is the platform's, and the line ends with its release."""
    shop = await Shop.opened(db, clock, fee_ppm=500_000)
    denied, other = await _delivered(shop), await _delivered(shop)
    await _deny(shop, denied[1], 999)
    await _at(shop, RELEASED)
    line = await _line(db, denied[1])
    assert (line.status, line.payable_at) == ("PAID", None)
    await _at(shop, APRIL)
    assert await _payouts(db) == [(APRIL, 500)]

    clock.at = APRIL + 2 * DAY
    assert await _give_back(shop, denied[1]) == 999
    line = await _line(db, denied[1])
    assert (line.status, line.confirmed_at, line.paid_at) == ("PENDING", None, None)
    assert line.expected_pay_at == CLOSES[1]
    await _at(shop, clock.at + DAY)
    line = await _line(db, denied[1])
    assert (line.status, line.confirmed_at) == ("CONFIRMED", APRIL + 3 * DAY)
    await _at(shop, MAY)
    line = await _line(db, denied[1])
    assert (line.status, line.payable_at, line.paid_at) == ("PAID", MAY, MAY)
    assert await _payouts(db) == [(APRIL, 500), (MAY, 500)]
    assert (await _line(db, other[1])).paid_at == APRIL


async def _waits_for_the_return_and_is_paid_after_it(
    db: Database, shop: Shop, order: OrderId, line_id: OrderLineId
) -> None:
    await _at(shop, APRIL)
    assert (await _line(db, line_id)).status == "PENDING"

    async with db.unit_of_work(SYSTEM) as session:
        await settlement.lift_hold(session, order, line_id)
    await _at(shop, APRIL + DAY)
    assert (await _line(db, line_id)).status == "CONFIRMED"
    await _at(shop, MAY)
    assert (await _line(db, line_id)).status == "PAID"
    assert sum(amount for _, amount in await _payouts(db)) == 950


async def test_a_part_given_back_to_a_released_line_takes_it_back_to_pending(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock)
    order, line_id = await _delivered(shop)
    await _deny(shop, line_id, 400)
    await _at(shop, RELEASED)
    assert (await _line(db, line_id)).status == "CONFIRMED"
    async with db.unit_of_work(SYSTEM) as session:  # a return is asked for: what is pending stays
        await settlement.hold_release(session, order, line_id)
    assert await _give_back(shop, line_id) == 400
    await _waits_for_the_return_and_is_paid_after_it(db, shop, order, line_id)


async def test_what_a_failed_refund_lays_back_as_pending_keeps_a_released_line_waiting(
    db: Database, clock: FixedClock
) -> None:
    """400 of 1,000 denied and 600 released. All is refunded, so the denial undone leaves its 400 with the merchant; the
    refund fails, and they are pending money of the payees."""
    shop = await Shop.opened(db, clock)
    order, line_id = await _delivered(shop)
    await _deny(shop, line_id, 400)
    await _at(shop, RELEASED)
    refund = await shop.refunds(order, everything=True)
    assert await _give_back(shop, line_id) == 0
    assert (await _line(db, line_id)).status == "REVERSED"
    async with db.unit_of_work(SYSTEM) as session:  # a return is asked for: what is pending stays
        await settlement.hold_release(session, order, line_id)
    await shop.refund_fails(refund)
    await _waits_for_the_return_and_is_paid_after_it(db, shop, order, line_id)


async def test_given_back_it_is_expected_with_the_others_and_paid_then_it_was_in_time(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock)
    order, line_id = await shop.sells()
    await _deny(shop, line_id, 1_000)
    clock.at = DELIVERED
    await shop.delivers(order, line_id)
    assert (await _line(db, line_id)).expected_pay_at == RELEASED  # nothing that a statement would hold
    clock.at = DELIVERED + 5 * DAY
    assert await _give_back(shop, line_id) == 1_000
    assert (await _line(db, line_id)).expected_pay_at == CLOSES[0]

    await _at(shop, RELEASED)
    await _at(shop, APRIL + 2 * DAY)
    assert (await _line(db, line_id)).status == "PAID"
    async with db.unit_of_work(SYSTEM) as session:
        await count_records(session, clock.at + 20 * DAY)
        counted = await session.execute(
            text("SELECT commissions_due, commissions_in_time FROM partner_records WHERE role = 'ADVERTISER'")
        )
        assert tuple(counted.one()) == (1, 1)


async def test_delivered_while_it_was_refunded_or_invalid_it_is_expected_by_its_delivery(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock)
    refunded, invalid = await shop.sells(), await shop.sells()
    refund = await shop.refunds(refunded[0], everything=True)
    doubted = CommissionLineId.of((await _line(db, invalid[1])).id)
    judged: dict[str, Any] = {"reason": "doubt", "approved_by": "usr_1", "clock": clock}
    async with db.unit_of_work(SYSTEM) as session:
        await denials.invalidate(session, doubted, **judged)
    clock.at = DELIVERED
    for order in (refunded, invalid):
        await shop.delivers(*order)
    clock.at += DAY
    await shop.refund_fails(refund)
    async with db.unit_of_work(SYSTEM) as session:
        await denials.reinstate(session, doubted, **judged)
    assert [await shop.line(line) for _, line in (refunded, invalid)] == 2 * [("PENDING", CLOSES[0])]
