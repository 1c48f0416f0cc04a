"""The worked order of a brand's own checkout (docs/rules/money.md, R15), to the fen.

On paper: the customer pays the brand 103.88. Commission 13.50 of it: individual 5.13, promoter brand 7.70 (the half fen
goes to the earlier of two equal fractions), platform 0.67. One of the two pieces comes back: 47.70 to the customer,
6.75 of the commission, over what the payees hold: 2.57, 3.85, 0.33. So 6.75 is left: 2.56, 3.85, 0.34.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, OrderLineId, RefundId
from infra.db.session import Database
from infra.payments.gateway import Charge
from marketplace.orders import queries, refunding
from marketplace.orders.errors import OrderKeptAtSource
from marketplace.orders.models import FulfillmentStatus, PaymentStatus
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import LineRefunded
from marketplace.orders.refunding import RefundCommand
from marketplace.promotion.decisions.verifying import stored_decisions, verify
from services.simulate.invariants import violations
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import queries as settlement
from supply.settlement import service
from supply.settlement.at_source import covering, paying
from supply.settlement.at_source.queries import commission_debt
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
from tests.factories.settlement import legs

_LINE = text("SELECT id FROM order_lines WHERE order_id = :order")
_PAYMENT = text(
    "INSERT INTO debt_payments (id, payee_id, tenant_id, currency, amount_minor, status, intent_id, created_at)"
    " VALUES (gen_random_uuid(), :payee, :tenant, 'CNY', :amount, 'open', 'pi_debt', :now)"
)


@pytest.fixture
async def shop(db: Database, clock: FixedClock) -> OwnShop:
    return await own_shop(db, clock)


async def test_from_the_order_to_what_everybody_has(db: Database, clock: FixedClock, shop: OwnShop) -> None:
    token = await clicked(db, clock, shop)
    order_id = await told_and_done(db, clock, shop, with_events(worked(shop, clock, token), paid(clock)))
    merchant, brand = f"party:{shop.merchant.brand_id}", f"party:{shop.market.promoter.brand_id}"
    person = f"party:{shop.individual}"
    async with db.reading(SYSTEM) as session:
        assert await legs(session, f"capture:own:{shop.storefront.id}:W-1:{order_id}") == {
            (Code.RECEIVABLE_NOT_DUE, merchant, 1_350), (Code.PENDING, person, -513),
            (Code.PENDING, brand, -770), (Code.FEE_DEFERRED, "platform", -67),
        }  # fmt: skip
        identity = await settlement.order_identity(session, order_id)
        assert identity.holds
        assert (identity.customer_paid_minor, identity.merchant_minor, identity.shipping_minor) == (
            10_388, 8_190, 848,
        )  # fmt: skip
        order = await queries.order(session, SYSTEM, order_id)
        assert (order.payment_status, order.total.amount_minor) == (PaymentStatus.PAID, 10_388)
        assert [verify(each).differences for each in await stored_decisions(session)] == [()]
    clock.advance(timedelta(days=2))

    one_back = happened(EventKind.REFUNDED, clock.now(), lines=[LineRefunded("L1", 1)])
    arrived = happened(EventKind.DELIVERED, clock.now())
    await told_and_done(db, clock, shop, with_events(worked(shop, _at(clock, -2), token), one_back, arrived))

    async with db.reading(SYSTEM) as session:
        refund = (await session.execute(text("SELECT id, amount_minor FROM refunds"))).one()
        assert refund.amount_minor == 4_770
        assert await legs(session, f"refund:{RefundId.of(refund.id)}:source") == {
            (Code.RECEIVABLE_NOT_DUE, merchant, -675), (Code.PENDING, person, 257),
            (Code.PENDING, brand, 385), (Code.FEE_DEFERRED, "platform", 33),
        }  # fmt: skip
        order = await queries.order(session, SYSTEM, order_id)
        assert (order.payment_status, order.fulfillment_status, order.refunded.amount_minor) == (
            PaymentStatus.PARTIALLY_REFUNDED, FulfillmentStatus.DELIVERED, 4_770,
        )  # fmt: skip
        assert (await settlement.order_identity(session, order_id)).holds
        assert await violations(session) == []

    # The return window is over: it is due, and nobody is paid of it.
    clock.advance(timedelta(days=15))
    line_id = await _only_line(db, order_id)
    assert await covering.claim_due(db, clock=clock) == 1
    assert await covering.claim_due(db, clock=clock) == 0
    assert await service.release_due(db, clock=clock) == 0
    async with db.reading(SYSTEM) as session:
        assert await legs(session, f"due:{line_id}") == {
            (Code.RECEIVABLE, merchant, 675), (Code.RECEIVABLE_NOT_DUE, merchant, -675),
        }  # fmt: skip
        debt = await commission_debt(session, shop.merchant.brand_id, "CNY")
        assert (debt.owed_minor, debt.commission_minor, debt.later_minor) == (675, 675, 0)

    await _pays(db, clock, shop, 675)
    assert await covering.cover_due(db, clock=clock) == 1
    assert await service.release_due(db, clock=clock) == 1
    async with db.reading(SYSTEM) as session:
        assert await legs(session, f"release:{line_id}:1") == {
            (Code.PENDING, person, 256), (Code.AVAILABLE, person, -256), (Code.PENDING, brand, 385),
            (Code.AVAILABLE, brand, -385), (Code.FEE_DEFERRED, "platform", 34),
            (Code.FEE_REVENUE, "platform", -34),
        }  # fmt: skip
        trial = {
            line.code: line.debit_minor for line in await ledger.trial_balance(session) if line.debit_minor
        }
        assert trial == {Code.PROVIDER_PENDING: 675, Code.AVAILABLE: -641, Code.FEE_REVENUE: -34}
        assert await violations(session) == []


async def test_what_comes_back_after_it_was_paid_for_is_the_brands_again(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """13.50 paid and released; then everything comes back: the payees owe or have less, the brand has 13.50."""
    token = await clicked(db, clock, shop)
    row = worked(shop, clock, token)
    order_id = await told_and_done(
        db, clock, shop, with_events(row, paid(clock), happened(EventKind.DELIVERED, clock.now()))
    )
    clock.advance(timedelta(days=15))
    await covering.claim_due(db, clock=clock)
    await _pays(db, clock, shop, 1_350)
    await covering.cover_due(db, clock=clock)
    await service.release_due(db, clock=clock)

    await told_and_done(db, clock, shop, with_events(row, happened(EventKind.CANCELLED, clock.now())))

    async with db.reading(SYSTEM) as session:
        order = await queries.order(session, SYSTEM, order_id)
        assert (order.payment_status, order.refunded.amount_minor) == (PaymentStatus.REFUNDED, 10_388)
        trial = {
            line.code: line.debit_minor for line in await ledger.trial_balance(session) if line.debit_minor
        }
        assert trial == {Code.PROVIDER_PENDING: 1_350, Code.AVAILABLE: -1_350}
        assert await violations(session) == []


async def test_an_operator_cannot_refund_money_that_is_not_here(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    order_id = await told_and_done(db, clock, shop, with_events(worked(shop, clock), paid(clock)))

    async with db.unit_of_work(SYSTEM) as session:
        with pytest.raises(OrderKeptAtSource):
            await refunding.request(session, SYSTEM, RefundCommand(order_id, everything=True), clock=clock)


def _at(clock: FixedClock, days: int) -> FixedClock:
    return FixedClock(clock.now() + timedelta(days=days))


async def _only_line(db: Database, order_id: OrderId) -> OrderLineId:
    async with db.reading(SYSTEM) as session:
        return OrderLineId.of((await session.execute(_LINE, {"order": order_id})).scalar_one())


async def _pays(db: Database, clock: FixedClock, shop: OwnShop, amount_minor: int) -> None:
    """R15d, as the provider tells it."""
    brand = shop.merchant.brand_id
    charge = Charge("ch_debt", amount_minor, 0, "CNY", "succeeded", "pi_debt", False, None, clock.now())
    async with db.unit_of_work(SYSTEM) as session:
        values = {"payee": str(brand), "tenant": brand, "amount": amount_minor, "now": clock.now()}
        await session.execute(_PAYMENT, values)
    for news in (True, False):
        async with db.unit_of_work(SYSTEM) as session:
            assert await paying.book_payment(session, "pi_debt", charge, now=clock.now()) is news
