"""A commission that is held on a sharing rail: its payees wait, nobody else does, and the freeze waits for nobody.

O1 of money.md §2: the supplier 4,800, the promoter brand 900, the individual 450; the platform's 450 are its fee.
"""

from __future__ import annotations

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import OrderLineId
from supply.ledger.chart import Code
from supply.settlement.capture import CapturedOrder
from supply.settlement.holds import LineHold, hold_commissions, lift_holds
from supply.settlement.rails.models import RequestStatus
from tests.factories.settlement import legs
from tests.factories.shared_order import MERCHANT, RAIL, Paid, deliver, everybody

_LOST = text("SELECT body FROM outbox WHERE name = 'settlement.rail_lost'")


async def _hold(paid: Paid, name: str = "h1", line: OrderLineId | None = None) -> None:
    order: CapturedOrder = paid.order
    hold = LineHold(name, order.order_id, line or order.lines[0].order_line_id)
    async with paid.db.unit_of_work(SYSTEM) as session:
        assert await hold_commissions(session, [hold], now=paid.clock.now()) == set()


async def _lift(paid: Paid, *names: str) -> None:
    async with paid.db.unit_of_work(SYSTEM) as session:
        await lift_holds(session, names)


def _unsuspected(paid: Paid) -> dict[str, int]:
    return {str(paid.parties.supplier): 4_800, "platform": 450}


async def test_whoever_has_a_part_in_a_held_line_waits_and_the_rest_with_them(o1: Paid) -> None:
    assert await deliver(o1)
    await _hold(o1)
    await _hold(o1, "h2")
    await o1.sweep(days=17)
    assert await o1.paid() == _unsuspected(o1)
    assert (await o1.view()).closed_at is None

    await _lift(o1, "h1")
    await o1.sweep()
    assert await o1.paid() == _unsuspected(o1)
    await _lift(o1, "h2")
    await o1.sweep()
    assert await o1.paid() == everybody(o1)
    await o1.sweep(days=1)
    assert (await o1.view()).closed_at is not None
    assert o1.received(str(o1.parties.merchant)) == MERCHANT


async def test_a_hold_on_another_line_keeps_nobody(o1: Paid) -> None:
    assert await deliver(o1)
    await _hold(o1, line=OrderLineId.new())
    await o1.sweep(days=17)
    assert await o1.paid() == everybody(o1)


async def test_a_supplier_in_one_request_with_held_payees_is_paid_without_them(o1: Paid) -> None:
    """Everybody is named in one request, as where due dates make more requests than the rail takes."""
    async with o1.db.unit_of_work(SYSTEM) as session:
        await session.execute(
            text(
                "UPDATE rail_instructions SET request_id = (SELECT id FROM rail_requests WHERE number = 1"
                " AND order_id = :order) WHERE order_id = :order"
            ),
            {"order": o1.order_id},
        )
    await _hold(o1)
    await o1.sweep(days=61)
    assert await o1.paid() == _unsuspected(o1)
    await _lift(o1, "h1")
    await o1.sweep()
    assert await o1.paid() == everybody(o1)


async def test_held_until_the_freeze_ends_it_is_the_merchants_who_owes_it_outside(o1: Paid) -> None:
    assert await deliver(o1)
    await _hold(o1)
    await o1.sweep(days=17)
    await o1.sweep(days=160)
    assert await o1.paid() == _unsuspected(o1)
    assert RequestStatus.LOST in await o1.statuses()
    async with o1.db.reading(SYSTEM) as session:
        closed = await legs(session, f"rail:{o1.payment.id}:{o1.order_id}:closed")
        (lost,) = (await session.execute(_LOST)).scalars()
    assert set(lost["payee_ids"]) == {str(o1.parties.promoter_brand), str(o1.parties.individual)}
    assert closed == {
        (Code.RAIL_ENTITLED, f"party:{o1.parties.merchant}", MERCHANT),
        (Code.RAIL_ENTITLED, f"party:{o1.parties.promoter_brand}", 900),
        (Code.RAIL_ENTITLED, f"party:{o1.parties.individual}", 450),
        (Code.RAIL_FROZEN, f"rail:{RAIL}", -(MERCHANT + 1_350)),
    }
    await _lift(o1, "h1")
    await o1.sweep(days=10)
    assert await o1.paid() == _unsuspected(o1)
