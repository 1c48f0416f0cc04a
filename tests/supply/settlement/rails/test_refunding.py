"""Refunds on the sharing rail: out of the frozen money, out of shares given back, never out of an individual."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import RefundId
from supply.ledger.chart import Code
from supply.settlement.rails import service
from supply.settlement.rails.errors import (
    RailRefundChanged,
    RailRefundNotRefused,
    RailRefundTooLarge,
    RailShareUnderWay,
)
from supply.settlement.rails.models import RequestStatus
from tests.factories.shared_order import MERCHANT, RAIL, Paid, deliver, everybody

FROZEN = (Code.RAIL_FROZEN, f"rail:{RAIL}")

_RETURNS = text("SELECT payee_id, status, failure FROM rail_returns WHERE refund_id = :id")


def by_line(paid: Paid) -> dict[str, int]:
    """R6 of money.md: 1 of 2 units back, 4,770; the merchant also bears the tax of 270 on this rail."""
    parties = paid.parties
    return {
        str(parties.merchant): 1_600 + 270,
        str(parties.supplier): 2_000,
        str(parties.promoter_brand): 450,
        str(parties.individual): 225,
        "platform": 225,
    }


def everything(paid: Paid) -> dict[str, int]:
    return {**everybody(paid), str(paid.parties.merchant): 10_388 - 6_600}


async def reserve(paid: Paid, borne: dict[str, int], refund: RefundId | None = None) -> RefundId:
    refund = refund or RefundId.new()
    async with paid.db.unit_of_work(SYSTEM) as session:
        await service.reserve_shared_refund(session, refund, paid.order_id, borne, now=paid.clock.now())
    return refund


async def refunded(paid: Paid) -> int:
    payment = await paid.rail.retrieve_payment(
        merchant_id=paid.payment.merchant_id, trade_no=paid.payment.trade_no
    )
    return payment.refunded_minor


async def refund_given_up(paid: Paid) -> None:
    """Delivered, and the supplier paid, which then gives nothing back."""
    await deliver(paid)
    await paid.sweep()
    paid.paysim.fault("return_failure", match={"account": paid.accounts[str(paid.parties.supplier)]})
    refund = await reserve(paid, by_line(paid))
    await paid.sweep()
    async with paid.db.unit_of_work(SYSTEM) as session:
        await service.void_shared_refund(session, refund, now=paid.clock.now())


async def test_a_refund_before_anything_was_shared_lowers_what_everybody_gets(o1: Paid) -> None:
    refund = await reserve(o1, by_line(o1))
    assert await reserve(o1, by_line(o1), refund) == refund
    with pytest.raises(RailRefundChanged):
        await reserve(o1, {**by_line(o1), "platform": 224}, refund)
    await deliver(o1)
    await o1.sweep()
    assert await refunded(o1) == 4_770
    await o1.sweep(days=15)
    await o1.sweep(days=2)

    kept = {payee: amount - by_line(o1)[payee] for payee, amount in everybody(o1).items()}
    assert {payee: o1.received(payee) for payee in kept} == kept
    # 3,726 less 1,870 and, of the rail's fee of 62, 28 came back: 62 × 4,770 / 10,388 = 28.47.
    assert o1.received(str(o1.parties.merchant)) == MERCHANT - 1_870 + 28
    assert FROZEN not in await o1.memo()


async def test_everything_back_before_anything_was_shared_leaves_nobody_anything(o1: Paid) -> None:
    await reserve(o1, everything(o1))
    await deliver(o1)
    await o1.sweep(days=15)
    await o1.sweep(days=2)
    assert await refunded(o1) == 10_388
    assert {payee: o1.received(payee) for payee in everything(o1)} == dict.fromkeys(everything(o1), 0)
    assert await o1.memo() == {}


async def test_everything_back_after_a_refused_request_was_named_again_leaves_nobody_anything(
    o1: Paid,
) -> None:
    """The first request's instructions are history: what was refunded is not paid out, nor owed, because of them."""
    await deliver(o1)
    merchant = o1.accounts[str(o1.parties.merchant)]
    o1.paysim.admin("POST", f"/sharing/merchants/{merchant}", max_outward_ppm=100_000)
    await o1.sweep()
    refused = next(each for each in (await o1.view()).requests if each.status is RequestStatus.REFUSED)
    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.retry_refused(session, refused.id, now=o1.clock.now())
    o1.paysim.admin("POST", f"/sharing/merchants/{merchant}", max_outward_ppm=700_000)
    await reserve(o1, everything(o1))
    await o1.sweep(days=15)
    await o1.sweep(days=2)
    assert await refunded(o1) == 10_388
    assert {payee: o1.received(payee) for payee in everything(o1)} == dict.fromkeys(everything(o1), 0)
    assert await o1.memo() == {}


async def test_what_a_business_was_paid_comes_back_before_the_customer_is_refunded(o1: Paid) -> None:
    await deliver(o1)
    await o1.sweep()
    assert o1.received(str(o1.parties.supplier)) == 4_800
    await reserve(o1, everything(o1))
    await service.send_shared_refunds(o1.db, rails={RAIL: o1.rail}, clock=o1.clock)
    assert await refunded(o1) == 0
    await o1.sweep()
    assert await refunded(o1) == 10_388
    await o1.sweep(days=15)
    await o1.sweep(days=2)
    assert {payee: o1.received(payee) for payee in everything(o1)} == dict.fromkeys(everything(o1), 0)
    assert await o1.memo() == {}


async def test_the_merchant_carries_what_an_individual_was_paid(o1: Paid) -> None:
    await deliver(o1)
    await o1.sweep()
    await o1.sweep(days=15)
    assert o1.received(str(o1.parties.individual)) == 450
    await reserve(o1, by_line(o1))
    await o1.sweep()
    assert await refunded(o1) == 4_770
    await o1.sweep(days=2)
    kept = {payee: amount - by_line(o1)[payee] for payee, amount in everybody(o1).items()}
    kept[str(o1.parties.individual)] = 450
    assert {payee: o1.received(payee) for payee in kept} == kept
    assert o1.received(str(o1.parties.merchant)) == MERCHANT - 1_870 + 28 - 225
    assert FROZEN not in await o1.memo()


async def test_a_refund_after_the_end_comes_out_of_what_the_merchant_has(o1: Paid) -> None:
    await deliver(o1)
    await o1.sweep()
    await o1.sweep(days=15)
    await o1.sweep(days=2)
    assert o1.received(str(o1.parties.merchant)) == MERCHANT
    before = await o1.memo()
    await reserve(o1, by_line(o1))
    await o1.sweep()
    assert await refunded(o1) == 4_770
    assert o1.received(str(o1.parties.supplier)) == 2_800
    assert o1.received(str(o1.parties.merchant)) == MERCHANT - 1_870 + 28 - 225
    # Of the platform's 450 it gave 225 back.
    assert o1.received("platform") == 225
    ours, revenue = (Code.PROVIDER_AVAILABLE, f"psp:{RAIL}"), (Code.FEE_REVENUE, "platform")
    assert before | {ours: 225, revenue: -225} == await o1.memo()


async def test_nobody_bears_more_than_it_has_and_nothing_moves_then(o1: Paid) -> None:
    merchant, supplier = str(o1.parties.merchant), str(o1.parties.supplier)
    wrong: list[dict[str, Any]] = [
        {supplier: 4_801},
        {merchant: MERCHANT + 63},
        {"brd_stranger": 1},
        {supplier: -1, merchant: 2},
    ]
    before = await o1.memo()
    for borne in wrong:
        with pytest.raises(RailRefundTooLarge):
            await reserve(o1, borne)
    assert await o1.memo() == before
    await deliver(o1)
    await o1.send()
    with pytest.raises(RailShareUnderWay):
        await reserve(o1, {supplier: 10})


async def test_a_return_that_fails_waits_for_an_operator_who_retries(o1: Paid) -> None:
    await deliver(o1)
    await o1.sweep()
    account = o1.accounts[str(o1.parties.supplier)]
    o1.paysim.fault("return_failure", match={"account": account})
    refund = await reserve(o1, by_line(o1))
    await o1.sweep()
    assert await refunded(o1) == 0
    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.retry_shared_refund(session, refund, now=o1.clock.now())
    await o1.sweep()
    assert await refunded(o1) == 4_770
    assert o1.received(str(o1.parties.supplier)) == 2_800
    with pytest.raises(RailRefundNotRefused):
        async with o1.db.unit_of_work(SYSTEM) as session:
            await service.retry_shared_refund(session, refund, now=o1.clock.now())


async def test_a_voided_refund_pays_everybody_in_full(o1: Paid) -> None:
    await refund_given_up(o1)
    await o1.sweep(days=15)
    await o1.sweep(days=2)
    assert await refunded(o1) == 0
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)
    assert o1.received(str(o1.parties.merchant)) == MERCHANT
    assert FROZEN not in await o1.memo()


async def test_what_comes_back_beside_a_return_that_fails_is_booked(o1: Paid) -> None:
    """The promoter brand gives nothing back; the platform and the supplier, asked at the same time, do. Then it is
    given up."""
    await deliver(o1)
    await o1.sweep(days=15)
    brand, supplier = str(o1.parties.promoter_brand), str(o1.parties.supplier)
    ours = (Code.PROVIDER_AVAILABLE, f"psp:{RAIL}")
    assert (await o1.memo())[ours] == 450
    o1.paysim.fault("return_failure", match={"account": o1.accounts[brand]})
    refund = await reserve(o1, by_line(o1))
    await o1.sweep()
    assert (o1.received("platform"), o1.received(supplier), o1.received(brand)) == (225, 2_800, 900)
    assert (await o1.memo())[ours] == 225
    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.void_shared_refund(session, refund, now=o1.clock.now())
    assert await refunded(o1) == 0
    assert (await o1.memo())[ours] == 225


@pytest.mark.parametrize("told", [{}, {"reason": None}], ids=["why", "not why"])
async def test_a_return_that_failed_stays_failed_when_the_rest_is_heard_of_later(
    o1: Paid, told: dict[str, Any]
) -> None:
    """The rail does not answer after the first one, the promoter brand's: the next sweep goes on from there."""
    await deliver(o1)
    await o1.sweep(days=15)
    o1.paysim.fault("return_failure", match={"account": o1.accounts[str(o1.parties.promoter_brand)]}, **told)
    refund = await reserve(o1, by_line(o1))
    o1.paysim.fault("server_error", count=1, match={"operation": "returns.*", "path": "*:2:1*"})
    for _ in range(3):
        await o1.sweep()
    assert await refunded(o1) == 0
    async with o1.db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_RETURNS, {"id": refund})).all()
    failed = {row.payee_id: row.failure for row in rows if row.status == "failed"}
    why = "RETURN_FAILED" if told else "BALANCE_NOT_ENOUGH"
    assert failed[str(o1.parties.promoter_brand)] == why


async def test_after_a_return_that_is_refused_outright_nobody_else_is_asked(o1: Paid) -> None:
    """The rail takes shares back for 180 days. The refund is given up; the shares are their payees' as before."""
    await deliver(o1)
    await o1.sweep(days=15)
    await o1.sweep(days=181)
    refund = await reserve(o1, by_line(o1))
    await o1.sweep()
    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.void_shared_refund(session, refund, now=o1.clock.now())
        rows = (await session.execute(_RETURNS, {"id": refund})).all()
    parties = o1.parties
    assert {row.payee_id: (row.status, row.failure) for row in rows} == {
        str(parties.promoter_brand): ("failed", "RETURN_WINDOW_OVER"),
        "platform": ("failed", "NOT_ASKED"), str(parties.supplier): ("failed", "NOT_ASKED"),
    }  # fmt: skip
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)


async def test_who_was_paid_by_two_requests_gives_back_of_both(o1: Paid) -> None:
    """A refund that is given up leaves brand and platform two instructions each: half before it, half again."""
    await refund_given_up(o1)
    await o1.sweep(days=15)
    brand = str(o1.parties.promoter_brand)
    assert (o1.received(brand), o1.received("platform")) == (900, 450)
    ours = (Code.PROVIDER_AVAILABLE, f"psp:{RAIL}")

    await reserve(o1, {brand: 900, "platform": 430})
    await o1.sweep()

    assert await refunded(o1) == 1_330
    assert (o1.received(brand), o1.received("platform")) == (0, 20)
    assert (await o1.memo())[ours] == 20


async def test_lost_answers_and_many_sweeps_at_once_refund_once(o1: Paid) -> None:
    o1.paysim.fault("drop_response", match={"operation": "payments.refund"})
    await reserve(o1, by_line(o1))
    await o1.sweep()
    calls = (service.send_shared_refunds(o1.db, rails={RAIL: o1.rail}, clock=o1.clock) for _ in range(6))
    await asyncio.gather(*calls)
    assert await refunded(o1) == 4_770
    left = await o1.memo()
    assert left[FROZEN] == 10_326 - 4_770 + 28
