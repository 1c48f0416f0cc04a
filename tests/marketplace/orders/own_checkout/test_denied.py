"""A commission of an own checkout that was not earned lowers what the brand owes, whenever that is found; undone, it is
owed again, and its payees wait again until it comes.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, OrderLineId
from infra.db.session import Database
from infra.payments.gateway import Charge
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import LineRefunded
from services.simulate.invariants import violations
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import service as settlement
from supply.settlement.at_source import covering, paying
from supply.settlement.denied_commission import deny_commission, restore_commission
from tests.factories.own_checkout import (
    OwnShop,
    clicked,
    happened,
    own_shop,
    paid,
    told_and_done,
    with_events,
    worked,
)

_LINE = text("SELECT id FROM order_lines WHERE order_id = :order")
_PAYMENT = text(
    "INSERT INTO debt_payments (id, payee_id, tenant_id, currency, amount_minor, status, intent_id, created_at)"
    " VALUES (gen_random_uuid(), :payee, :tenant, 'CNY', 1350, 'open', 'pi_debt', :now)"
)
NOT_DUE, DUE, PAID = "not due", "due", "paid for"


@pytest.mark.parametrize("when", [NOT_DUE, DUE, PAID])
async def test_a_denial_and_its_undoing_leave_the_brand_owing_what_stands(
    db: Database, clock: FixedClock, when: str
) -> None:
    """13.50 of commission, wholly denied; undone, then one of two comes back: 6.75 stands."""
    shop = await own_shop(db, clock)
    token = await clicked(db, clock, shop)
    row = worked(shop, clock, token)
    arrived = happened(EventKind.DELIVERED, clock.now())
    order_id = await told_and_done(db, clock, shop, with_events(row, paid(clock), arrived))
    async with db.reading(SYSTEM) as session:
        line = OrderLineId.of((await session.execute(_LINE, {"order": order_id})).scalar_one())
    if when != NOT_DUE:
        clock.advance(timedelta(days=15))
        await covering.claim_due(db, clock=clock)
    if when == PAID:
        await _pays(db, clock, shop)
        await covering.cover_due(db, clock=clock)
        await settlement.release_due(db, clock=clock)
    cash = {Code.PROVIDER_PENDING: 1_350} if when == PAID else {}
    owed = {NOT_DUE: Code.RECEIVABLE_NOT_DUE, DUE: Code.RECEIVABLE, PAID: Code.RECEIVABLE}[when]

    async with db.unit_of_work(SYSTEM) as session:
        await deny_commission(
            session, order_id, line, reference="d", reason="r", approved_by="o", now=clock.now()
        )
    # What it had paid of it is its own again.
    assert await _books(db) == (cash | {Code.AVAILABLE: -1_350} if when == PAID else {})

    await _restored(db, clock, order_id)
    back = {Code.AVAILABLE: -1_350} if when == PAID else {}
    assert await _books(db) == cash | back | {owed: 1_350, Code.PENDING: -1_283, Code.FEE_DEFERRED: -67}
    assert await settlement.release_due(db, clock=clock) == 0

    one = happened(EventKind.REFUNDED, clock.now(), lines=[LineRefunded("L1", 1)])
    await told_and_done(db, clock, shop, with_events(row, one))
    assert await _books(db) == cash | back | {owed: 675, Code.PENDING: -641, Code.FEE_DEFERRED: -34}


async def _restored(db: Database, clock: FixedClock, order_id: OrderId) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await restore_commission(session, order_id, "d", reason="r", approved_by="o", now=clock.now())


async def _books(db: Database) -> dict[Code, int]:
    async with db.reading(SYSTEM) as session:
        assert await violations(session) == []
        trial = await ledger.trial_balance(session)
        return {Code(line.code): line.debit_minor for line in trial if line.debit_minor}


async def _pays(db: Database, clock: FixedClock, shop: OwnShop) -> None:
    brand, now = shop.merchant.brand_id, clock.now()
    charge = Charge("ch_debt", 1_350, 0, "CNY", "succeeded", "pi_debt", False, None, now)
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_PAYMENT, {"payee": str(brand), "tenant": brand, "now": now})
        assert await paying.book_payment(session, "pi_debt", charge, now=now)
