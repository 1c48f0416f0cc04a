"""A line that several promoters sold together: everybody has a part of their own, in every recipe."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import PromoterId, RefundId
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.capture import CapturedOrder, CommissionShare
from supply.settlement.composition import Part
from supply.settlement.errors import SplitDoesNotSum
from supply.settlement.refunds import LineRefund, RefundPlan
from tests.factories.settlement import PAID_AT, Parties, legs, line_of_o1, order_of

SECOND = PromoterId.new()


def linear(parties: Parties) -> list[CommissionShare]:
    """O1's 1,350 over two touches of one promoter brand, LINEAR: 675 each; an individual has a third of it,
    the platform 15 of each."""
    return [
        CommissionShare(str(parties.individual), Part.INDIVIDUAL, 225, winner=1),
        CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, 435, winner=1),
        CommissionShare("platform", Part.PLATFORM_COMMISSION, 15, winner=1),
        CommissionShare(str(SECOND), Part.INDIVIDUAL, 225, winner=2),
        CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, 435, winner=2),
        CommissionShare("platform", Part.PLATFORM_COMMISSION, 15, winner=2),
    ]


async def sold_together(session: AsyncSession, clock: FixedClock, parties: Parties) -> CapturedOrder:
    order = order_of(parties, [line_of_o1(parties, commission=linear(parties))])
    await service.open_split(session, order, clock=clock)
    return order


async def test_two_individuals_earn_from_one_line(session: AsyncSession, clock: FixedClock) -> None:
    parties = Parties()
    order = await sold_together(session, clock, parties)

    assert await legs(session, f"capture:ch_1:{order.order_id}") >= {
        (Code.PENDING, f"party:{parties.individual}", -225),
        (Code.PENDING, f"party:{SECOND}", -225),
        (Code.PENDING, f"party:{parties.promoter_brand}", -870),
        (Code.FEE_DEFERRED, "platform", -480),  # the fee of 450 and two parts of 15
    }
    identity = await queries.order_identity(session, order.order_id)
    assert (identity.holds, identity.commissions_minor) == (True, 1_320)


async def test_a_refund_takes_from_every_winner_and_a_void_gives_it_back(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await sold_together(session, clock, parties)
    refund = RefundId.new()
    plan = RefundPlan(refund, order.order_id, [LineRefund(order.lines[0].order_line_id, 1)])
    await service.reserve_refund(session, plan, now=PAID_AT)

    # Half the line: 675 of 1,350 over 225, 435, 15, 225, 435, 15. Halves of 112.5, 217.5, 7.5 …: the floors sum
    # to 672, and three units over go to the first three of equal remainders.
    assert await legs(session, f"refund:{refund}:reserve") >= {
        (Code.PENDING, f"party:{parties.individual}", 113),
        (Code.PENDING, f"party:{SECOND}", 112),
        (Code.PENDING, f"party:{parties.promoter_brand}", 218 + 217),
        (Code.FEE_DEFERRED, "platform", 225 + 8 + 7),
    }
    await service.void_refund(session, refund, now=PAID_AT)
    assert (await queries.order_identity(session, order.order_id)).holds
    parts = await queries.parts_of_order(session, order.order_id)
    assert [p.pending_minor for p in parts if p.part is Part.INDIVIDUAL] == [225, 225]


async def test_the_rest_empties_every_seat_and_release_pays_each(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await sold_together(session, clock, parties)
    plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=777)
    await service.reserve_refund(session, plan, now=PAID_AT)
    rest = RefundPlan(RefundId.new(), order.order_id, everything=True)
    taken = await service.reserve_refund(session, rest, now=PAID_AT + timedelta(days=1))

    assert taken.amount_minor == 10_388 - 777
    balances = await queries.party_balances(session, [str(SECOND), str(parties.individual)])
    assert [(b.pending_minor, b.receivable_minor) for b in balances] == [(0, 0), (0, 0)]
    assert (await queries.order_identity(session, order.order_id)).holds


async def test_a_winner_has_one_share_of_a_role(session: AsyncSession, clock: FixedClock) -> None:
    parties = Parties()
    twice = [CommissionShare(str(person), Part.INDIVIDUAL, 10) for person in (parties.individual, SECOND)]
    with pytest.raises(SplitDoesNotSum, match="two individual parts"):
        await service.open_split(
            session, order_of(parties, [line_of_o1(parties, commission=twice)]), clock=clock
        )
