"""Lines that leave nobody anything end like the others; what comes back after that waits for its money again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CommissionLineId, OrderId, OrderLineId, ProductId, RefundId
from infra.db.session import Database
from marketplace.promotion import service as promotion
from marketplace.promotion.agreements.limits import CapScope, CapTerm
from marketplace.promotion.commission import denials, reversal
from marketplace.promotion.commission.nothing_to_pay import LOOK_AGAIN_AFTER, end_lines
from marketplace.promotion.commission.reversal import TakenShare
from marketplace.promotion.directory.recording import count_records
from marketplace.promotion.fraud import holds
from marketplace.promotion.models import ShareRole
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from supply.settlement import service as settlement
from supply.settlement.models import PayeeStatus
from tests.factories import promotion as make
from tests.marketplace.promotion.commission.shop import DAY, MERCHANT, PAID_AT, PROMOTER, Shop

DELIVERED = PAID_AT + 4 * DAY


async def _delivered(shop: Shop, basis: int = 10_000) -> tuple[OrderId, OrderLineId]:
    order_id, line_id = await shop.sells(basis)
    shop.clock.at = DELIVERED
    await shop.delivers(order_id, line_id)
    return order_id, line_id


async def _line_of(db: Database, line_id: OrderLineId) -> Any:
    async with db.reading(SYSTEM) as session:
        found = await session.execute(
            text("SELECT * FROM commission_lines WHERE order_line_id = :id"), {"id": line_id}
        )
        return found.one()


@pytest.mark.parametrize(
    "terms",
    [{"rate_ppm": 0}, {"caps": (CapTerm(CapScope.AGREEMENT, 0, "CNY"),)}],
    ids=["a rate of nothing", "an exhausted cap"],
)
async def test_a_commission_of_nothing_ends_when_its_return_window_does(
    db: Database, clock: FixedClock, terms: dict[str, Any]
) -> None:
    shop = await Shop.opened(db, clock, **terms)
    _, line_id = await _delivered(shop)
    # No statement will hold it: it is expected at delivery + 15 days.
    assert await shop.line(line_id) == ("PENDING", DELIVERED + 15 * DAY)

    clock.at = DELIVERED + 14 * DAY
    assert await end_lines(db, clock=clock) == 0
    clock.at = DELIVERED + 15 * DAY
    assert await end_lines(db, clock=clock) == 1

    line = await _line_of(db, line_id)
    assert (line.status, line.paid_at, line.payable_at, line.commission_minor) == (
        "PAID",
        clock.now(),
        None,
        0,
    )
    assert await end_lines(db, clock=clock) == 0


@pytest.mark.parametrize(("window", "ends"), [(15, 45), (60, 60)])
async def test_never_delivered_it_ends_after_45_days_and_not_before_the_window_could(
    db: Database, clock: FixedClock, window: int, ends: int
) -> None:
    shop = await Shop.opened(db, clock, rate_ppm=0, return_window_days=window)
    _, line_id = await shop.sells()
    assert await shop.line(line_id) == ("PENDING", PAID_AT + ends * DAY)
    clock.at = PAID_AT + (ends - 1) * DAY
    assert await end_lines(db, clock=clock) == 0
    clock.at = PAID_AT + ends * DAY
    assert await end_lines(db, clock=clock) == 1


async def test_an_open_after_sale_or_hold_keeps_it_waiting(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock, rate_ppm=0)
    returned, held = await _delivered(shop), await _delivered(shop)
    async with db.unit_of_work(SYSTEM) as session:
        await settlement.hold_release(session, *returned)
        doubted = CommissionLineId.of((await _line_of(db, held[1])).id)
        assert await holds.hold_line(session, doubted, opened_by="usr_1", reason="odd", clock=clock)
    clock.at = DELIVERED + 15 * DAY
    assert await end_lines(db, clock=clock) == 0

    async with db.unit_of_work(SYSTEM) as session:
        await settlement.lift_hold(session, *returned)
    clock.at += LOOK_AGAIN_AFTER
    assert await end_lines(db, clock=clock) == 1
    assert [(await shop.line(each))[0] for each in (returned[1], held[1])] == ["PAID", "PENDING"]


async def test_a_unit_that_is_the_platforms_alone_is_in_no_promoters_statement(
    db: Database, clock: FixedClock
) -> None:
    # 10 % of 0.10 is one unit; of the weights ¼, ¼, ½ the platform's is the largest fraction.
    shop = await Shop.opened(db, clock, alone=False, fee_ppm=500_000, individual_ppm=500_000)
    _, line_id = await _delivered(shop, basis=10)
    clock.at = DELIVERED + 15 * DAY
    await shop.settles()
    await shop.hears()
    line = await _line_of(db, line_id)
    assert (line.status, line.payable_at, line.commission_minor) == ("PAID", None, 1)


async def test_all_of_it_denied_it_ends_and_given_back_it_is_paid(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    _, line_id = await _delivered(shop)
    line = CommissionLineId.of((await _line_of(db, line_id)).id)
    denial = {"reference": "rate:1", "reason": "DEVICE_REUSE", "approved_by": "usr_1", "clock": clock}
    async with db.unit_of_work(SYSTEM) as session:
        assert await denials.deny_part(session, line, 1_000, **denial) == 1_000
    await shop.delivers(*await _order_of(db, line_id))
    clock.at = DELIVERED + 15 * DAY
    assert await end_lines(db, clock=clock) == 1

    async with db.unit_of_work(SYSTEM) as session:
        assert await denials.give_back_part(session, line, **denial) == 1_000
    assert (await shop.line(line_id))[0] == "PENDING"
    for at, status in ((clock.at, "CONFIRMED"), (datetime(2026, 4, 1, 1, tzinfo=UTC), "PAID")):
        clock.at = at
        await shop.settles()
        await shop.hears()
        assert (await shop.line(line_id))[0] == status
    ended = await _line_of(db, line_id)
    assert (ended.payable_at, ended.paid_at) == (clock.at, clock.at)
    async with db.reading(SYSTEM) as session:
        paid = await session.execute(text("SELECT payee_id, amount_minor FROM payouts WHERE status = 'paid'"))
        assert [tuple(row) for row in paid] == [(str(PROMOTER.brand_id), 950)]


async def _order_of(db: Database, line_id: OrderLineId) -> tuple[OrderId, OrderLineId]:
    return OrderId.of((await _line_of(db, line_id)).order_id), line_id


async def test_found_invalid_wrongly_a_line_of_nothing_waits_for_its_end_again(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock, rate_ppm=0)
    _, line_id = await _delivered(shop)
    line = CommissionLineId.of((await _line_of(db, line_id)).id)
    for verb, status in ((denials.invalidate, "INVALID"), (denials.reinstate, "PENDING")):
        async with db.unit_of_work(SYSTEM) as session:
            assert await verb(session, line, reason="doubt", approved_by="usr_1", clock=clock) == 0
        assert (await shop.line(line_id))[0] == status
    clock.at = DELIVERED + 15 * DAY
    assert await end_lines(db, clock=clock) == 1


@pytest.mark.parametrize("told", [False, True])
async def test_a_released_line_whose_refund_fails_stands_where_it_stood(
    db: Database, clock: FixedClock, told: bool
) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await _delivered(shop)
    clock.at = DELIVERED + 15 * DAY
    await settlement.release_due(db, clock=clock)
    if told:  # else the news of the release comes when the refund is recorded already
        await shop.hears()
    refund = await shop.refunds(order_id, everything=True)
    await shop.hears()
    assert (await shop.line(line_id))[0] == "REVERSED"

    await shop.refund_fails(refund)
    assert (await shop.line(line_id))[0] == "CONFIRMED"
    clock.at = PAID_AT + 30 * DAY
    await shop.settles()
    await shop.hears()
    assert (await shop.line(line_id))[0] == "PAID"


async def test_wholly_refunded_a_line_of_nothing_is_reversed_too(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock, rate_ppm=0)
    order_id, line_id = await _delivered(shop)
    refund = await shop.refunds(order_id, everything=True)
    line = await _line_of(db, line_id)
    assert (line.status, line.refunded_basis_minor, line.reversed_minor) == ("REVERSED", 10_000, 0)
    await shop.refund_fails(refund)
    line = await _line_of(db, line_id)
    assert (line.status, line.refunded_basis_minor) == ("PENDING", 0)


async def _counted(db: Database, at: datetime) -> tuple[int, int]:
    """Lines that were to be paid, and in time, of the one advertiser."""
    async with db.unit_of_work(SYSTEM) as session:
        await count_records(session, at)
        rows = await session.execute(
            text("SELECT commissions_due, commissions_in_time FROM partner_records WHERE role = 'ADVERTISER'")
        )
        return tuple(rows.one())


async def test_what_had_nothing_to_pay_makes_nobody_punctual_or_late(db: Database, clock: FixedClock) -> None:
    """Two lines that were to be paid in April, one of nothing: of one it counts whether it was in time."""
    shop = await Shop.opened(db, clock)
    paid = await _delivered(shop)
    tiny = await _delivered(shop, basis=4)  # 10 % of 0.04 rounds to nothing
    assert (await _line_of(db, tiny[1])).commission_minor == 0
    for at in (PAID_AT + 20 * DAY, datetime(2026, 4, 1, 1, tzinfo=UTC)):
        clock.at = at
        await end_lines(db, clock=clock)
        await shop.settles()
        await shop.hears()
    assert [(await shop.line(line))[0] for _, line in (paid, tiny)] == ["PAID", "PAID"]

    assert await _counted(db, clock.at + 10 * DAY) == (1, 1)


async def test_the_platforms_own_unit_makes_nobody_punctual_or_late(db: Database, clock: FixedClock) -> None:
    """Neither when it has ended, in no statement, nor while a hold keeps it."""
    shop = await Shop.opened(db, clock, alone=False, fee_ppm=500_000, individual_ppm=500_000)
    ended, held = await _delivered(shop, basis=10), await _delivered(shop, basis=10)
    async with db.unit_of_work(SYSTEM) as session:
        doubted = CommissionLineId.of((await _line_of(db, held[1])).id)
        await holds.hold_line(session, doubted, opened_by="usr_1", reason="odd", clock=clock)
    clock.at = DELIVERED + 15 * DAY
    await shop.settles()
    await shop.hears()
    assert [(await shop.line(line))[0] for _, line in (ended, held)] == ["PAID", "PENDING"]
    assert await _counted(db, clock.at + 20 * DAY) == (0, 0)


async def test_a_line_of_nothing_whose_money_is_not_in_our_books_is_left_as_it_is(
    db: Database, clock: FixedClock
) -> None:
    """On a sharing rail there is no split that says when a return window is over, and nothing that would confirm it."""
    shop = await Shop.opened(db, clock, rate_ppm=0)
    line = LineForAttribution(
        OrderLineId.new(), ProductId.new(), "sku", "beauty", quantity=1, gross_minor=10_000
    )
    order = OrderForAttribution(
        OrderId.new(), MERCHANT.brand_id, "CNY", PAID_AT, [line], touch_tokens=[shop.token], paid_at=PAID_AT
    )
    async with db.unit_of_work(SYSTEM) as session:
        await promotion.attribute(session, order, signer=make.SIGNER, clock=clock)
    clock.at = PAID_AT + 45 * DAY
    assert await end_lines(db, clock=clock) == 0
    seen = (await _line_of(db, line.order_line_id)).txid
    clock.at = PAID_AT + 800 * DAY
    assert await end_lines(db, clock=clock) == 0
    left = await _line_of(db, line.order_line_id)
    assert (left.status, left.expected_pay_at, left.txid) == ("PENDING", PAID_AT + 45 * DAY, seen)


async def test_a_line_that_waits_for_its_payee_is_looked_at_once_until_more_is_taken_of_it(
    db: Database, clock: FixedClock
) -> None:
    """Half refunded and payable: it says when it was expected and is not written again. The rest goes, and it ends."""
    shop = await Shop.opened(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await settlement.register_payee(
            session, str(PROMOTER.brand_id), currency="CNY", account_id="acct_1", now=PAID_AT,
            status=PayeeStatus.PENDING,
        )  # fmt: skip
    order_id, line_id = await _delivered(shop)
    await shop.refunds(order_id, amount_minor=5_000)
    for at in (DELIVERED + 15 * DAY, datetime(2026, 4, 1, 1, tzinfo=UTC)):
        clock.at = at
        await shop.settles()
        await shop.hears()
    assert await _to_be_looked_at(db, clock) == 1
    assert await end_lines(db, clock=clock) == 0
    seen = await _line_of(db, line_id)
    assert (seen.status, seen.expected_pay_at) == ("PAYABLE", datetime(2026, 4, 1, 0, 5, tzinfo=UTC))
    clock.at += 800 * DAY
    assert await _to_be_looked_at(db, clock) == 0
    assert await end_lines(db, clock=clock) == 0
    assert (await _line_of(db, line_id)).txid == seen.txid

    held = {row.role: row.held for row in await _shares(db, seen.id)}
    assert held == {"promoter_brand": 475, "platform": 25}
    await _takes(db, clock, line_id, 475)
    assert await end_lines(db, clock=clock) == 1
    assert (await _line_of(db, line_id)).status == "PAID"


async def _to_be_looked_at(db: Database, clock: FixedClock) -> int:
    async with db.reading(SYSTEM) as session:
        due = "SELECT count(*) FROM commission_lines WHERE coalesce(next_look_at, expected_pay_at) <= :now"
        return int(await session.scalar(text(due), {"now": clock.now()}) or 0)


async def _shares(db: Database, commission_line_id: Any) -> list[Any]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(
            text(
                "SELECT role, earned_minor - reversed_minor - denied_minor AS held FROM commission_shares"
                " WHERE commission_line_id = :id"
            ),
            {"id": commission_line_id},
        )
        return list(rows)


async def _takes(db: Database, clock: FixedClock, line_id: OrderLineId, amount_minor: int) -> None:
    """A refund that the promoter brand alone bears the commission of."""
    taken = [TakenShare(line_id, ShareRole.PROMOTER_BRAND, str(PROMOTER.brand_id), amount_minor)]
    async with db.unit_of_work(SYSTEM) as session:
        await reversal.reverse_taken(session, RefundId.new(), taken, {}, clock=clock)


async def test_what_waits_for_a_case_keeps_the_day_it_was_expected(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock, rate_ppm=0)
    order_id, line_id = await _delivered(shop)
    async with db.unit_of_work(SYSTEM) as session:
        await settlement.hold_release(session, order_id, line_id)
    clock.at = DELIVERED + 15 * DAY
    assert await end_lines(db, clock=clock) == 0
    line = await _line_of(db, line_id)
    assert (line.expected_pay_at, line.next_look_at) == (clock.at, clock.at + LOOK_AGAIN_AFTER)
