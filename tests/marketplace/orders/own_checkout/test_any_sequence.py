"""Whatever sequence a shop's messages arrive in, and however many at a time are worked off, the books are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import EventTold, LineRefunded, LineTold, Telling
from services.simulate.invariants import violations
from tests.factories.own_checkout import (
    OwnShop,
    clicked,
    happened,
    own_shop,
    tell,
    told_and_done,
    with_events,
    work,
    worked,
)

_BOOKS = text(
    "SELECT a.code, a.owner, sum(e.amount_minor)::bigint AS minor FROM ledger_journals j"
    " JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a ON a.id = e.account_id"
    " WHERE j.order_id = :order GROUP BY 1, 2 HAVING sum(e.amount_minor) <> 0 ORDER BY 1, 2"
)
_PARTS = text(
    "SELECT l.kind, l.sku, p.seat, p.amount_minor, p.by_line_minor, p.by_amount_minor, p.pending_minor,"
    " p.released_minor, p.due_at, l.returned_quantity, l.by_quantity_minor, l.by_value_minor FROM split_parts p"
    " JOIN split_lines l ON l.id = p.line_id WHERE p.order_id = :order ORDER BY l.kind, l.sku, l.captured_minor, p.seat"
)
_SHARES = text(
    "SELECT s.role, l.basis_minor, l.status, l.reversed_minor AS of_line, s.earned_minor, s.reversed_minor"
    " FROM commission_lines l JOIN commission_shares s ON s.commission_line_id = l.id WHERE l.order_id = :order"
    " ORDER BY l.basis_minor, s.position"
)
_ORDER = text(
    "SELECT o.payment_status, o.fulfillment_status, o.refunded_minor, o.delivered_at, p.status, p.refunded_minor,"
    " (SELECT array_agg(l.refunded_quantity ORDER BY l.gross_minor) FROM order_lines l WHERE l.order_id = o.id)"
    " FROM orders o JOIN payments p ON p.checkout_id = o.checkout_id WHERE o.id = :order"
)


@dataclass(frozen=True, slots=True)
class Books:
    ledger: list[Any]
    parts: list[Any]
    shares: list[Any]
    order: list[Any]


@pytest.fixture
async def shop(db: Database, clock: FixedClock) -> OwnShop:
    return await own_shop(db, clock)


def _order(shop: OwnShop, clock: FixedClock, token: str, reference: str) -> Telling:
    """Two lines whose commission leaves uneven shares: 3 × 33.33 and 1 × 17.77, shipping 5.00."""
    lines = [
        LineTold("A", 3, 3_333, sku=shop.product.skus[0]),
        LineTold("B", 1, 1_777, title="A brush", category="beauty/tools"),
    ]
    return worked(
        shop, clock, token, reference=reference, lines=lines, discounts=[], shipping_minor=500,
        total_minor=12_276,
    )  # fmt: skip


def _events(at: datetime, *, cancelled: bool) -> list[EventTold]:
    """In the sequence in which they happened."""
    refunds: list[tuple[list[LineRefunded], int]] = [
        ([LineRefunded("A", 0, 701)], 0),
        ([LineRefunded("A", 1), LineRefunded("B", 0, 333)], 0),
        ([], 250),
        ([LineRefunded("B", 0, 1)], 0),
        ([LineRefunded("A", 1, 2_001)], 0),
    ]
    told = [
        happened(
            EventKind.REFUNDED, at + timedelta(hours=n), id=f"r{n}", lines=lines, shipping_minor=shipping
        )
        for n, (lines, shipping) in enumerate(refunds, 1)
    ]
    told += [
        happened(EventKind.PAID, at), happened(EventKind.SHIPPED, at + timedelta(hours=3)),
        happened(EventKind.DELIVERED, at + timedelta(days=1)),
    ]  # fmt: skip
    if cancelled:
        told.append(happened(EventKind.CANCELLED, at + timedelta(hours=4, minutes=30)))
    return told


async def _in_sequence(
    db: Database, clock: FixedClock, shop: OwnShop, rows: Sequence[Telling], dice: Random
) -> Books:
    """Told one by one; the worker comes by now and then, more than once at times."""
    reference = rows[0].reference
    for row in rows:
        await tell(db, clock, shop, row)
        for _ in range(dice.choice((0, 1, 1, 2))):
            await work(db, clock, shop, reference)
    await work(db, clock, shop, reference)
    order_id = (await tell(db, clock, shop, rows[0]))[0].order_id
    async with db.reading(SYSTEM) as session:
        found = [
            [tuple(row) for row in await session.execute(statement, {"order": order_id})]
            for statement in (_BOOKS, _PARTS, _SHARES, _ORDER)
        ]
    return Books(*found)


@pytest.mark.parametrize("cancelled", [False, True], ids=["refunded in slices", "cancelled among them"])
async def test_any_sequence_of_the_same_messages_gives_the_same_books(
    db: Database, clock: FixedClock, shop: OwnShop, cancelled: bool
) -> None:
    token = await clicked(db, clock, shop)
    placed, at = FixedClock(clock.now()), clock.now()
    clock.advance(timedelta(days=3))
    dice = Random(20261122)
    seen: dict[str, Books] = {}
    for number in range(8):
        reference = f"P-{number}"
        order = _order(shop, placed, token, reference)
        events = sorted(_events(at, cancelled=cancelled), key=lambda each: each.at)
        named = [replace(each, id=f"{reference}-{each.id}") for each in events]
        rows = [order, *(Telling(reference, None, [each]) for each in named)]
        if number:
            dice.shuffle(rows)
        seen[reference] = await _in_sequence(db, clock, shop, rows, dice)

    first = seen["P-0"]
    assert first.ledger or cancelled
    assert first.order[0][0] == ("refunded" if cancelled else "partially_refunded")
    for reference, books in seen.items():
        assert books == first, reference
    async with db.reading(SYSTEM) as session:
        assert await violations(session) == []


async def test_a_refund_told_in_its_turn_takes_what_r6_says_and_one_told_late_moves_a_unit_back(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """Commission 15 % of 100 = 15: individual 5.70, brand 8.55, platform 0.75, by largest remainder 6, 8, 1.

    In their turn: 1 of 100 takes 0.15, nothing; with 56 more 8.55, so 9: of 6, 8, 1 that is 3.6, 4.8, 0.6, by largest
    remainder 4, 5, 0 (of two equal fractions the earlier). 2, 3, 1 is left. The 56 alone take 8.4, so 8: 3.2, 4.27 and
    0.53, so 3, 4, 1; 3, 4, 0 is left. Told late, the 1 gives the platform its unit back.
    """
    token = await clicked(db, clock, shop)
    lines = [LineTold("A", 1, 100, title="A pin")]
    special: dict[str, Any] = {"lines": lines, "discounts": [], "shipping_minor": 0, "total_minor": 100}
    at = clock.now()
    early = worked(shop, clock, token, reference="early", **special)
    late = worked(shop, clock, token, reference="late", **special)
    clock.advance(timedelta(days=1))

    def refunded(row: Telling, minor: int, *, hour: int) -> EventTold:
        lines = [LineRefunded("A", 0, minor)]
        name = f"{row.reference}-{hour}"
        return happened(EventKind.REFUNDED, at + timedelta(hours=hour), id=name, lines=lines)

    def paid(row: Telling) -> EventTold:
        return happened(EventKind.PAID, at, id=f"{row.reference}-paid")

    in_turn = await told_and_done(
        db, clock, shop, with_events(early, paid(early), refunded(early, 1, hour=1))
    )
    assert await _held(db, in_turn) == {"individual": 6, "promoter_brand": 8, "platform_commission": 1}
    await told_and_done(db, clock, shop, with_events(early, refunded(early, 56, hour=2)))
    assert await _held(db, in_turn) == {"individual": 2, "promoter_brand": 3, "platform_commission": 1}

    order_id = await told_and_done(db, clock, shop, with_events(late, paid(late), refunded(late, 56, hour=2)))
    assert await _held(db, order_id) == {"individual": 3, "promoter_brand": 4, "platform_commission": 0}
    await told_and_done(db, clock, shop, with_events(late, refunded(late, 1, hour=1)))
    assert await _held(db, order_id) == {"individual": 2, "promoter_brand": 3, "platform_commission": 1}
    async with db.reading(SYSTEM) as session:
        taken = [tuple(row) for row in await session.execute(_TAKEN, {"order": order_id})]
        assert taken == [("individual", 4), ("promoter_brand", 5), ("platform", 0)]
        assert await violations(session) == []


_TAKEN = text(
    "SELECT s.role, s.reversed_minor FROM commission_lines l JOIN commission_shares s"
    " ON s.commission_line_id = l.id WHERE l.order_id = :order ORDER BY s.position"
)
_HELD = text(
    "SELECT part, sum(amount_minor - by_line_minor - by_amount_minor)::int AS held FROM split_parts"
    " WHERE order_id = :order AND part <> 'merchant' GROUP BY part"
)


async def _held(db: Database, order_id: Any) -> dict[str, int]:
    async with db.reading(SYSTEM) as session:
        return {row.part: row.held for row in await session.execute(_HELD, {"order": order_id})}
