"""The commission lines both brands read say what the ledger took: by refunds of any kind, lost disputes, and back.

Two creams: basis 17,699, commission 1,770, of which the platform 88 and the promoter brand 1,682 (test_order_to_books).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CommissionLineId, OrderId, RefundId
from core.money import Money
from infra.db.session import Database
from infra.payments.gateway import Refund as ProviderRefund
from marketplace.orders import queries, refund_commission, refund_sending, refunding
from marketplace.orders.refunding import RefundCommand, RefundLine
from marketplace.promotion.commission import denials
from supply.settlement import queries as settlement
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.events import DisputeLost, DisputeWon
from tests.factories import orders, promotion
from tests.factories.settlement import dispute_of
from tests.fixtures.waiting import until_waiting

_SHARES = text(
    "SELECT s.role, sum(s.earned_minor - s.reversed_minor)::int AS held FROM commission_shares s"
    " JOIN commission_lines l ON l.id = s.commission_line_id WHERE l.order_id = :order GROUP BY s.role"
)
_LINE = text(
    "SELECT status, reversed_minor, refunded_basis_minor FROM commission_lines WHERE order_id = :order"
)


class Promoted:
    """A paid order of two units that the promoter brand sold."""

    def __init__(self, db: Database, clock: FixedClock, shop: orders.Shop, order_id: OrderId) -> None:
        self.db, self.clock, self.shop, self.order_id = db, clock, shop, order_id
        self.tries = 0

    async def held(self) -> dict[str, int]:
        async with self.db.reading(SYSTEM) as session:
            return {row.role: row.held for row in await session.execute(_SHARES, {"order": self.order_id})}

    async def in_books(self) -> int:
        """What the promoter brand has."""
        async with self.db.reading(SYSTEM) as session:
            promoter = str(self.shop.promotion.promoter.brand_id)
            (balance,) = await settlement.party_balances(session, [promoter])
            assert await settlement.broken_identities(session) == []
        return balance.net_minor

    async def line(self) -> tuple[str, int, int]:
        async with self.db.reading(SYSTEM) as session:
            row = (await session.execute(_LINE, {"order": self.order_id})).one()
        return row.status, row.reversed_minor, row.refunded_basis_minor

    async def refund(self, **asked: object) -> RefundId:
        async with self.db.unit_of_work(SYSTEM) as session:
            command = RefundCommand(self.order_id, **asked)  # type: ignore[arg-type]
            return await refunding.request(session, self.shop.promotion.merchant, command, clock=self.clock)

    async def provider_says(self, refund_id: RefundId, status: str) -> None:
        told = ProviderRefund(
            "re_1", 1, "CNY", status, "ch", None, None, "declined" if status == "failed" else None,
            self.clock.now(),
        )  # fmt: skip
        await refund_sending.apply_provider_refund(self.db, refund_id, told, clock=self.clock)

    async def bank_says(self, verdict: str) -> None:
        """Of a dispute about the whole order."""
        async with self.db.unit_of_work(SYSTEM) as session:
            query = text("SELECT charge_id FROM split_orders WHERE order_id = :order")
            charge = (await session.execute(query, {"order": self.order_id})).scalar_one()
            told, now = dispute_of(charge, status=verdict, amount_minor=20_500), self.clock.now()
            await apply_dispute(session, told, provider="stripe", now=now)
            facts = ("du_1", (self.order_id,), 20_500, "CNY", now)
            if verdict == "lost":
                await refund_commission.on_dispute_lost(session, DisputeLost(*facts), clock=self.clock)
            else:
                await refund_commission.on_dispute_won(session, DisputeWon(*facts), clock=self.clock)


async def promoted(db: Database, clock: FixedClock) -> Promoted:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.promotion, clock)
        token = await promotion.click(session, link, clock.now())
    clock.advance(timedelta(hours=1))
    made = Promoted(db, clock, shop, await orders.paid_order(db, shop, clock, quantity=2, tokens=[token]))
    assert await made.held() == {"platform": 88, "promoter_brand": 1_682}
    return made


async def test_a_refund_by_amount_lowers_the_commission_lines_as_the_books(
    db: Database, clock: FixedClock
) -> None:
    sale = await promoted(db, clock)
    refund_id = await sale.refund(amount=Money(5_000, "CNY"))
    assert await sale.held() == {"platform": 88, "promoter_brand": 1_682}  # not certain yet

    await sale.provider_says(refund_id, "succeeded")
    await sale.provider_says(refund_id, "succeeded")

    # 5,000 of 20,500: the promoter brand's part of it by largest remainder, 1,682 · 5,000 / 20,500 = 410.2.
    assert (await sale.held())["promoter_brand"] == await sale.in_books() == 1_682 - 410


async def test_one_unit_and_the_rest_take_back_everything(db: Database, clock: FixedClock) -> None:
    sale = await promoted(db, clock)
    async with db.reading(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [sale.order_id]))[sale.order_id]
    for asked in ({"lines": [RefundLine(line.id, 1)]}, {"everything": True}):
        await sale.provider_says(await sale.refund(**asked), "succeeded")
        assert (await sale.held())["promoter_brand"] == await sale.in_books()

    assert await sale.held() == {"platform": 0, "promoter_brand": 0}
    assert await sale.line() == ("REVERSED", 1_770, 17_699)


@pytest.mark.parametrize("told", [["failed"], ["succeeded", "failed", "failed"]])
async def test_what_was_withheld_for_a_refund_comes_back_when_that_fails(
    db: Database, clock: FixedClock, told: list[str]
) -> None:
    """Found invalid, one unit refunded meanwhile, found valid again: the payees are without half, 885 of 1,770 (of
    88 by largest remainder 44, of 1,682 the other 841), until the refund fails."""
    sale = await promoted(db, clock)
    async with db.reading(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [sale.order_id]))[sale.order_id]
        commission = CommissionLineId.of(await session.scalar(text("SELECT id FROM commission_lines")))
    async with db.unit_of_work(SYSTEM) as session:
        assert (
            await denials.invalidate(session, commission, reason="a look", approved_by="usr_1", clock=clock)
            == 1_770
        )
    refund_id = await sale.refund(lines=[RefundLine(line.id, 1)])
    *before, last = told
    for status in before[:1]:
        await sale.provider_says(refund_id, status)
    async with db.unit_of_work(SYSTEM) as session:
        assert (
            await denials.reinstate(session, commission, reason="wrong", approved_by="usr_1", clock=clock)
            == 885
        )
    assert await sale.held() == {"platform": 44, "promoter_brand": 841}
    assert await sale.in_books() == 841

    for status in [*before[1:], last]:
        await sale.provider_says(refund_id, status)
    assert await sale.held() == {"platform": 88, "promoter_brand": 1_682}
    assert await sale.in_books() == 1_682
    assert await sale.line() == ("PENDING", 0, 0)


async def test_what_comes_back_to_an_invalid_line_is_not_earned_either(
    db: Database, clock: FixedClock
) -> None:
    """One unit refunded, 885 of 1,770; the line found invalid; the refund fails: the merchant has that half too. Found
    valid again, everything comes back."""
    sale = await promoted(db, clock)
    async with db.reading(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [sale.order_id]))[sale.order_id]
        commission = CommissionLineId.of(await session.scalar(text("SELECT id FROM commission_lines")))
    verdict = {"reason": "a look", "approved_by": "usr_1", "clock": clock}
    refund_id = await sale.refund(lines=[RefundLine(line.id, 1)])
    await sale.provider_says(refund_id, "succeeded")
    async with db.unit_of_work(SYSTEM) as session:
        assert await denials.invalidate(session, commission, **verdict) == 885

    await sale.provider_says(refund_id, "failed")
    assert (await sale.line(), await sale.in_books()) == (("INVALID", 0, 0), 0)

    async with db.unit_of_work(SYSTEM) as session:
        assert await denials.reinstate(session, commission, **verdict) == 1_770
    assert (await sale.line(), await sale.in_books()) == (("PENDING", 0, 0), 1_682)


async def test_what_was_withheld_for_a_lost_dispute_comes_back_when_it_is_won(
    db: Database, clock: FixedClock
) -> None:
    """Found invalid, all charged back, found valid again: nobody has any of it, until the bank thinks again."""
    sale = await promoted(db, clock)
    async with db.reading(SYSTEM) as session:
        commission = CommissionLineId.of(await session.scalar(text("SELECT id FROM commission_lines")))
    verdict = {"reason": "a look", "approved_by": "usr_1", "clock": clock}
    async with db.unit_of_work(SYSTEM) as session:
        assert await denials.invalidate(session, commission, **verdict) == 1_770
    await sale.bank_says("lost")
    async with db.unit_of_work(SYSTEM) as session:
        assert await denials.reinstate(session, commission, **verdict) == 0
    assert (await sale.held(), await sale.in_books()) == ({"platform": 0, "promoter_brand": 0}, 0)
    assert (await sale.line())[0] == "REVERSED"

    await sale.bank_says("won")
    assert await sale.held() == {"platform": 88, "promoter_brand": 1_682}
    assert await sale.in_books() == 1_682
    assert await sale.line() == ("PENDING", 0, 0)


async def test_what_two_undone_denials_withheld_for_one_refund_comes_back_with_it(
    db: Database, clock: FixedClock
) -> None:
    """500 and 385 of 1,770 denied, then half of the goods refunded: of the 885 left R6 takes half_up(442.5) = 443. Both
    undone, the payees have half, 885; the refund fails, and they have all."""
    sale = await promoted(db, clock)
    async with db.reading(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [sale.order_id]))[sale.order_id]
        commission = CommissionLineId.of(await session.scalar(text("SELECT id FROM commission_lines")))
    async with db.unit_of_work(SYSTEM) as session:
        for reference, amount in (("one", 500), ("two", 385)):
            await denials.deny_part(
                session,
                commission,
                amount,
                reference=reference,
                reason="a look",
                approved_by="usr_1",
                clock=clock,
            )
    refund_id = await sale.refund(lines=[RefundLine(line.id, 1)])
    await sale.provider_says(refund_id, "succeeded")
    assert sum((await sale.held()).values()) == 1_770 - 443  # of the record's shares; what is denied is apart
    async with db.unit_of_work(SYSTEM) as session:
        for reference in ("one", "two"):
            await denials.give_back_part(
                session, commission, reference=reference, reason="wrong", approved_by="usr_1", clock=clock
            )
    assert sum((await sale.held()).values()) == 885
    assert (await sale.held())["promoter_brand"] == await sale.in_books()

    await sale.provider_says(refund_id, "failed")
    assert await sale.held() == {"platform": 88, "promoter_brand": 1_682}
    assert await sale.in_books() == 1_682


async def test_a_refund_that_fails_after_it_succeeded_gives_the_commission_back(
    db: Database, clock: FixedClock
) -> None:
    sale = await promoted(db, clock)
    refund_id = await sale.refund(everything=True)
    await sale.provider_says(refund_id, "succeeded")
    assert await sale.held() == {"platform": 0, "promoter_brand": 0}

    await sale.provider_says(refund_id, "failed")
    await sale.provider_says(refund_id, "failed")

    assert await sale.held() == {"platform": 88, "promoter_brand": 1_682}
    assert await sale.line() == ("PENDING", 0, 0)
    assert await sale.in_books() == 1_682


async def test_one_refund_succeeds_while_the_bank_sends_another_back(db: Database, clock: FixedClock) -> None:
    """One unit each, 44 and 841 of 88 and 1,682: both change the line and the payment, and wait for the line first."""
    sale = await promoted(db, clock)
    async with db.reading(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [sale.order_id]))[sale.order_id]
    sent_back, waiting = [await sale.refund(lines=[RefundLine(line.id, 1)]) for _ in range(2)]
    await sale.provider_says(sent_back, "succeeded")

    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(text("SELECT FROM commission_lines FOR UPDATE"))
        told = [asyncio.create_task(sale.provider_says(waiting, "succeeded"))]
        await until_waiting(db, 1)
        told.append(asyncio.create_task(sale.provider_says(sent_back, "failed")))
        await until_waiting(db, 2)
    await asyncio.gather(*told)

    assert await sale.held() == {"platform": 44, "promoter_brand": 841}
    assert await sale.in_books() == 841
    assert (await sale.line())[:2] == ("PENDING", 885)


async def test_a_lost_dispute_takes_the_commission_and_a_verdict_turned_round_gives_it_back(
    db: Database, clock: FixedClock
) -> None:
    sale = await promoted(db, clock)
    await sale.bank_says("lost")
    assert await sale.held() == {"platform": 0, "promoter_brand": 0}
    assert (await sale.line())[0] == "REVERSED"
    assert await sale.in_books() == 0

    await sale.bank_says("won")
    assert await sale.held() == {"platform": 88, "promoter_brand": 1_682}
    assert await sale.in_books() == 1_682
