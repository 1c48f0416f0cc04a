"""Returns of two creams of ¥100.00 (13 % tax inside, cost 30.00 each, fee 5 %): R6 when taken back, R6a when not.

Goods 17,699 net, tax 2,301, fee 885, cost 6,000: the merchant keeps 10,814; nobody promotes. One unit: goods 8,850,
tax 1,151, fee 443, cost 3,000, merchant 8,850 - 443 - 3,000 = 5,407 — or, not taken back, 8,850 - 443 = 8,407.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import OrderId, OrderLineId
from core.money import Money
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.orders import queries, refunding, returning
from marketplace.orders.errors import OrderNotFound
from marketplace.orders.models import RefundCause
from marketplace.orders.refunding import RefundCommand, RefundLine
from marketplace.orders.return_models import ReturnId, ReturnStatus
from marketplace.orders.returning import (
    ReturnCommand,
    ReturnExceedsDelivered,
    ReturnNotFound,
    ReturnNotOpen,
    ReturnUnitsInvalid,
)
from supply.fulfillment import queries as deliveries
from supply.fulfillment import service as fulfillment
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.settlement import queries as settlement
from supply.settlement import service as books
from tests.factories import orders
from tests.factories.brands import committed_brand


class Case:
    """A delivered order of two units, and steps of its return."""

    def __init__(self, db: Database, shop: orders.Shop, order_id: OrderId, clock: FixedClock) -> None:
        self.db, self.shop, self.order_id, self.clock = db, shop, order_id, clock
        self.line_id: OrderLineId

    @property
    def merchant(self) -> Actor:
        return self.shop.promotion.merchant

    @property
    def supplier(self) -> Actor:
        return self.shop.source.actor

    async def announce(self, units: int, actor: Actor | None = None, **options: object) -> ReturnId:
        async with self.db.unit_of_work(SYSTEM) as session:
            command = ReturnCommand(self.order_id, {self.line_id: units}, **options)  # type: ignore[arg-type]
            (made,) = await returning.announce(session, actor or self.merchant, command, clock=self.clock)
        return made

    async def receive(self, return_id: ReturnId, units: int, actor: Actor | None = None) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            await returning.receive(
                session, actor or self.supplier, return_id, {self.line_id: units}, clock=self.clock
            )

    async def inspect(self, return_id: ReturnId, accepted: int, *, damaged: int = 0) -> list[int]:
        """Amounts of the refunds it led to."""
        async with self.db.unit_of_work(SYSTEM) as session:
            units = {self.line_id: accepted} if accepted else {}
            made = await returning.inspect(
                session, self.supplier, return_id, units, damaged={self.line_id: damaged} if damaged else None,
                clock=self.clock,
            )  # fmt: skip
            known = (await queries.refunds_of(session, [self.order_id]))[self.order_id]
        return [each.amount.amount_minor for each in known if each.id in made]

    async def owed_to(self) -> tuple[int, int]:
        """What the merchant and the supplier have, less what they owe."""
        ids = [str(self.merchant.brand_id), str(self.shop.source.supplier_id)]
        async with self.db.reading(SYSTEM) as session:
            found = {b.payee_id: b.net_minor for b in await settlement.party_balances(session, ids)}
        return found[ids[0]], found[ids[1]]

    async def shelf(self) -> int:
        """Units the supplier has; two of its creams were sold."""
        async with self.db.reading(SYSTEM) as session:
            (level,) = await stock.availability(session, [self.shop.variant])
            assert await inventory.drifts(session) == []
        return level.on_hand

    async def releases(self) -> int:
        return await books.release_due(self.db, clock=self.clock)

    async def status(self, return_id: ReturnId) -> ReturnStatus:
        async with self.db.reading(self.merchant) as session:
            page = await returning.returns_page(session, self.merchant, PageRequest(10))
        return next(each.status for each in page.items if each.id == return_id)


async def delivered(db: Database, clock: FixedClock) -> Case:
    shop = await orders.open_shop(db, clock)
    case = Case(db, shop, await orders.paid_order(db, shop, clock, quantity=2), clock)
    async with db.unit_of_work(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [case.order_id]))[case.order_id]
        case.line_id = line.id
        (fo,) = (await deliveries.of_orders(session, SYSTEM, [case.order_id]))[case.order_id]
        await fulfillment.accept(session, case.supplier, fo.id, clock=clock)
        await fulfillment.ship(
            session, case.supplier, fo.id, carrier="sf-express", tracking_no="SF1", clock=clock
        )
        await fulfillment.deliver(
            session, case.supplier, fo.id, delivered_at=clock.now(), proof=None, clock=clock
        )
        units = [(line.id, 2)]
        await books.record_delivery(session, case.order_id, shop.source.supplier_id, units, at=clock.now())
    return case


async def test_a_unit_the_supplier_takes_back_costs_it_its_price(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    assert await case.owed_to() == (10_814, 6_500)
    return_id = await case.announce(1)
    await case.receive(return_id, 1)

    assert await case.inspect(return_id, 1) == [10_001]  # 8,850 + 1,151
    assert await case.owed_to() == (10_814 - 5_407, 6_500 - 3_000)
    assert await case.status(return_id) is ReturnStatus.CLOSED
    async with db.reading(SYSTEM) as session:
        (refund,) = (await queries.refunds_of(session, [case.order_id]))[case.order_id]
        assert refund.cause is RefundCause.RETURNED
        assert refund.reference == f"{return_id}:accepted"
        assert (await settlement.order_identity(session, case.order_id)).holds


async def test_a_unit_the_supplier_refuses_is_the_merchants_cost_or_nobodys(
    db: Database, clock: FixedClock
) -> None:
    case = await delivered(db, clock)
    kept = await case.announce(1)
    await case.receive(kept, 1)
    assert await case.inspect(kept, 0) == []
    assert await case.owed_to() == (10_814, 6_500)

    granted = await case.announce(1, refund_if_refused=True)
    await case.receive(granted, 1)
    assert await case.inspect(granted, 0) == [10_001]
    assert await case.owed_to() == (10_814 - 8_407, 6_500)
    async with db.reading(SYSTEM) as session:
        assert (await settlement.order_identity(session, case.order_id)).holds


async def test_one_unit_is_taken_back_and_one_is_not(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    return_id = await case.announce(2, refund_if_refused=True)
    await case.receive(return_id, 2)

    assert sum(await case.inspect(return_id, 1)) == 20_000
    assert await case.owed_to() == (10_814 - 5_407 - 8_407, 6_500 - 3_000)
    with pytest.raises(ReturnExceedsDelivered):
        await case.announce(1)


async def test_nothing_is_released_while_a_return_is_open(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    return_id = await case.announce(1)
    clock.advance(timedelta(days=29))
    assert await case.releases() == 0

    async with db.unit_of_work(SYSTEM) as session:
        with pytest.raises(ReturnNotFound):
            await returning.withdraw(session, case.supplier, return_id, clock=clock)
        await returning.withdraw(session, case.merchant, return_id, clock=clock)
    assert await case.releases() == 1
    assert await case.status(return_id) is ReturnStatus.WITHDRAWN


async def test_a_return_nothing_comes_of_expires(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    return_id = await case.announce(2)
    clock.advance(timedelta(days=30) - timedelta(seconds=1))
    assert await returning.sweep_returns(db, clock=clock) == 0
    clock.advance(timedelta(seconds=1))

    assert await returning.sweep_returns(db, clock=clock) == 1
    assert await case.status(return_id) is ReturnStatus.EXPIRED
    assert await case.releases() == 1
    with pytest.raises(ReturnNotOpen):
        await case.receive(return_id, 1)


async def test_what_cannot_come_back_is_refused(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    stranger, _ = await committed_brand(db, clock, name="Stranger")
    with pytest.raises(OrderNotFound):
        await case.announce(1, stranger)
    with pytest.raises(ReturnUnitsInvalid):
        await case.announce(0)
    with pytest.raises(ReturnExceedsDelivered) as refused:
        await case.announce(3)
    assert (refused.value.asked, refused.value.left) == (3, 2)
    return_id = await case.announce(2)
    with pytest.raises(ReturnExceedsDelivered):
        await case.announce(1)
    for actor in (stranger, case.merchant):  # only the supplier says what it got
        with pytest.raises(ReturnNotFound):
            await case.receive(return_id, 1, actor)
    with pytest.raises(ReturnUnitsInvalid):
        await case.receive(return_id, 3)
    with pytest.raises(ReturnNotOpen):
        await case.inspect(return_id, 1)
    await case.receive(return_id, 1)
    with pytest.raises(ReturnUnitsInvalid):
        await case.inspect(return_id, 2)


@pytest.mark.parametrize("accepted", [2, 1, 0])
@pytest.mark.parametrize("whole", ["by units", "by amount"])
async def test_what_was_refunded_while_it_travelled_is_not_refunded_again_and_the_case_ends(
    db: Database, clock: FixedClock, accepted: int, whole: str
) -> None:
    case = await delivered(db, clock)
    return_id = await case.announce(2, refund_if_refused=True)
    await case.receive(return_id, 2)
    async with db.unit_of_work(SYSTEM) as session:
        command = RefundCommand(case.order_id, [RefundLine(case.line_id, 2, came_back=True)], shipping=True)
        if whole == "by amount":
            command = RefundCommand(case.order_id, amount=Money(20_500, "CNY"))
        await refunding.request(session, case.merchant, command, clock=clock)

    assert await case.inspect(return_id, accepted) == []
    assert await case.status(return_id) is ReturnStatus.CLOSED
    assert await case.owed_to() == (0, 0)
    assert await case.releases() == 0


async def test_only_what_is_left_of_a_returned_line_is_refunded(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    return_id = await case.announce(2, refund_if_refused=True)
    await case.receive(return_id, 2)
    async with db.unit_of_work(SYSTEM) as session:  # one of the two at the counter, at the merchant's cost
        line = RefundLine(case.line_id, 1, supplier_accepts=False, came_back=True)
        await refunding.request(session, case.merchant, RefundCommand(case.order_id, [line]), clock=clock)

    assert await case.inspect(return_id, 1) == [9_999]  # 20,000 - 10,001; of the other nothing is left
    assert await case.owed_to() == (10_814 - 8_407 - 5_407, 6_500 - 3_000)
    assert await case.status(return_id) is ReturnStatus.CLOSED


async def test_an_undelivered_unit_is_cancelled_not_returned(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    case = Case(db, shop, await orders.paid_order(db, shop, clock), clock)
    async with db.reading(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [case.order_id]))[case.order_id]
    case.line_id = line.id
    with pytest.raises(ReturnExceedsDelivered):
        await case.announce(1)


async def test_what_is_taken_back_whole_is_on_the_shelf_again_and_what_is_damaged_is_not(
    db: Database, clock: FixedClock
) -> None:
    case = await delivered(db, clock)
    before = await case.shelf()
    return_id = await case.announce(2)
    await case.receive(return_id, 2)
    for wrong in (3, -1):
        with pytest.raises(ReturnUnitsInvalid):
            await case.inspect(return_id, 2, damaged=wrong)
    assert await case.shelf() == before

    await case.inspect(return_id, 2, damaged=1)

    assert await case.shelf() == before + 1
    async with db.reading(case.supplier) as session:
        (view,) = (await returning.returns_page(session, case.supplier, PageRequest(10))).items
        (fo,) = (await deliveries.of_orders(session, case.supplier, [case.order_id]))[case.order_id]
    assert [(line.accepted, line.restocked) for line in view.lines] == [(2, 1)]
    assert [line.returned for line in fo.lines] == [2]


async def test_what_the_supplier_does_not_take_back_stays_off_its_shelf(
    db: Database, clock: FixedClock
) -> None:
    case = await delivered(db, clock)
    before = await case.shelf()
    return_id = await case.announce(1, refund_if_refused=True)
    await case.receive(return_id, 1)

    await case.inspect(return_id, 0)

    assert await case.shelf() == before


async def test_a_decision_of_five_at_once_is_taken_once(db: Database, clock: FixedClock) -> None:
    case = await delivered(db, clock)
    before = await case.shelf()
    return_id = await case.announce(1)
    await case.receive(return_id, 1)

    decided = await asyncio.gather(*(case.inspect(return_id, 1) for _ in range(5)), return_exceptions=True)

    assert sorted(type(each).__name__ for each in decided) == ["ReturnNotOpen"] * 4 + ["list"]
    assert await case.shelf() == before + 1
