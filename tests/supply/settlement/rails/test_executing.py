"""A split is recorded, sent to the sharing rail as it really runs, and settled once, whatever fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM, Actor, ActorKind
from core.ids import BrandId, SupplierId
from core.pagination import PageRequest
from infra.db.session import Database
from infra.payments.profit_sharing import ProfitSharing
from infra.payments.sharing import Receiver, ReceiverKind, Relation
from supply.ledger.chart import Code
from supply.settlement.obstacles import CapExceeded, CouponNotCarried, NoAccount
from supply.settlement.rails import queries, service
from supply.settlement.rails.errors import NotPayableOnRail, RailRequestNotRefused
from supply.settlement.rails.models import RequestStatus
from supply.settlement.reconciliation.bill import reconcile_bill
from tests.factories.settlement import Parties, legs, line_of_o1, order_of
from tests.factories.shared_order import FEE, KEY, MERCHANT, RAIL, Paid, deliver, everybody, paid_o1, record
from tests.fixtures.unanswered import killed_in_the_call, unanswered


async def test_the_ledger_records_whose_the_frozen_money_is_and_holds_none_of_it(o1: Paid) -> None:
    async with o1.db.reading(SYSTEM) as session:
        found = await legs(session, f"rail:{o1.payment.id}:{o1.order_id}:recorded")
    assert found == {
        (Code.RAIL_FROZEN, f"rail:{RAIL}", 10_326),
        (Code.RAIL_ENTITLED, f"party:{o1.parties.merchant}", -MERCHANT),
        (Code.RAIL_ENTITLED, f"party:{o1.parties.supplier}", -4_800),
        (Code.RAIL_ENTITLED, f"party:{o1.parties.promoter_brand}", -900),
        (Code.RAIL_ENTITLED, f"party:{o1.parties.individual}", -450),
        (Code.RAIL_ENTITLED, "platform", -450),
    }
    await record(o1)
    assert len((await o1.view()).requests) == 3


async def test_everybody_is_paid_in_time_and_the_rest_is_the_merchants(o1: Paid) -> None:
    assert await deliver(o1)
    await o1.sweep()
    # The supplier is due at delivery; nobody else before returns end.
    assert await o1.paid() == {str(o1.parties.supplier): 4_800}
    await o1.sweep(days=15)
    assert await o1.paid() == everybody(o1)
    assert (await o1.view()).closed_at is None
    await o1.sweep(days=1)

    assert await o1.statuses() == [RequestStatus.FINISHED] * 3
    assert (await o1.view()).closed_at is not None
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)
    assert o1.received(str(o1.parties.merchant)) == MERCHANT
    # Only the platform's own fee is money of ours.
    assert await o1.memo() == {
        (Code.PROVIDER_AVAILABLE, f"psp:{RAIL}"): 450,
        (Code.FEE_REVENUE, "platform"): -450,
    }


async def test_without_a_delivery_everything_waits_for_the_last_moment(o1: Paid) -> None:
    await o1.sweep(days=44)
    assert await o1.paid() == {}
    await o1.sweep(days=1)
    assert await o1.paid() == {str(o1.parties.supplier): 4_800}
    # What was sent is not planned anew.
    assert not await deliver(o1)


async def test_the_last_unit_delivered_dates_the_plan(o1: Paid) -> None:
    assert not await deliver(o1, 1)
    assert (await o1.view()).requests[0].send_at == o1.order.paid_at + timedelta(days=45)
    o1.paysim.clock.advance(timedelta(days=2))
    assert await deliver(o1, 1)
    sends = [request.send_at - o1.order.paid_at for request in (await o1.view()).requests]
    days = [each.total_seconds() // 86_400 for each in sends]
    # Supplier at delivery, the others when returns end, the rest a day later.
    assert days == [2, 17, 18]
    assert not await deliver(o1, 1)


async def test_the_merchant_sees_its_order_a_payee_its_part_and_a_stranger_nothing(o1: Paid) -> None:
    def actor(tenant: Any) -> Actor:
        kind = ActorKind.SUPPLIER if isinstance(tenant, SupplierId) else ActorKind.BRAND
        return Actor(kind, tenant)

    seen = {}
    for name, tenant in (
        ("merchant", o1.parties.merchant),
        ("supplier", o1.parties.supplier),
        ("stranger", BrandId.new()),
    ):
        who = actor(tenant)
        async with o1.db.reading(who) as session:
            order = await queries.rail_order(session, who, o1.order_id)
            told = (await queries.instructions_page(session, who, PageRequest(100))).items
        seen[name] = (order is not None, {each.payee_id for each in told if each.order_id == o1.order_id})
    assert seen == {
        "merchant": (True, set(everybody(o1))),
        "supplier": (False, {str(o1.parties.supplier)}),
        "stranger": (False, set()),
    }


async def test_thirty_per_cent_is_too_little_for_o1_and_every_missing_account_is_named(
    db: Database, paysim: Any, rail: ProfitSharing
) -> None:
    paid = await paid_o1(db, paysim, rail, cap_ppm=300_000)
    stranger = order_of(Parties(), [line_of_o1(Parties())], paid_at=paid.clock.now())
    for order, kinds in ((paid.order, {CapExceeded}), (stranger, {CapExceeded, NoAccount})):
        with pytest.raises(NotPayableOnRail) as refused:
            async with db.unit_of_work(SYSTEM) as session:
                await service.record_shared_payment(
                    session, order, payment_id="p", fee_minor=FEE, rail=paid.allowed, clock=paid.clock
                )
        assert {type(reason) for reason in refused.value.reasons} == kinds


async def test_a_coupon_somebody_else_paid_cannot_be_shared_out(
    db: Database, paysim: Any, rail: ProfitSharing
) -> None:
    paid = await paid_o1(db, paysim, rail)
    order = replace(paid.order, lines=[replace(paid.order.lines[0], coupon_minor=500)])
    with pytest.raises(NotPayableOnRail) as refused:
        async with db.unit_of_work(SYSTEM) as session:
            await service.record_shared_payment(
                session, order, payment_id="p", fee_minor=FEE, rail=paid.allowed, clock=paid.clock
            )
    assert CouponNotCarried(500) in refused.value.reasons


async def test_response_lost_after_execution(o1: Paid) -> None:
    await deliver(o1)
    o1.paysim.fault("drop_response", match={"operation": "shares.create"})
    await o1.send()
    # The first call named unknown receivers and was refused; adding them, the second one was dropped.
    assert RequestStatus.PLANNED not in (await o1.statuses())[:1]
    await o1.sweep(days=15)
    assert await o1.paid() == everybody(o1)
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)


async def test_a_request_the_rail_never_got_goes_out_again_under_its_number(o1: Paid) -> None:
    await deliver(o1)
    o1.paysim.fault("server_error", count=3, match={"operation": "shares.create"})
    await o1.send()
    assert (await o1.statuses())[0] is RequestStatus.SENDING
    await o1.sweep(days=15)
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)


async def test_many_sweeps_at_once_send_and_settle_once(o1: Paid) -> None:
    await deliver(o1)
    sent = await asyncio.gather(*(o1.send() for _ in range(8)))
    assert sum(sent) == 1
    o1.paysim.clock.advance(timedelta(minutes=2))
    found = await o1.rail.retrieve_share(
        merchant_id=o1.accounts[str(o1.parties.merchant)],
        payment_id=o1.payment.id,
        order_no=str((await o1.view()).requests[0].id),
    )
    assert found is not None
    request = (await o1.view()).requests[0].id
    await asyncio.gather(*(service.settle_share(o1.db, request, found, clock=o1.clock) for _ in range(8)))
    assert await o1.paid() == {str(o1.parties.supplier): 4_800}
    left = await o1.memo()
    assert left[Code.RAIL_FROZEN, f"rail:{RAIL}"] == 10_326 - 4_800
    assert (Code.RAIL_INSTRUCTED, f"party:{o1.parties.supplier}") not in left


async def test_a_receiver_that_fails_is_named_again_and_paid_once(o1: Paid) -> None:
    account = o1.accounts[str(o1.parties.individual)]
    o1.paysim.fault("share_failure", match={"account": account}, reason="REAL_NAME_NEEDED")
    await deliver(o1)
    await o1.sweep(days=15)
    assert str(o1.parties.individual) not in await o1.paid()
    await o1.sweep(days=2)
    await o1.sweep(days=1)
    assert await o1.paid() == everybody(o1)
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)
    # The finishing request waited for the repeat.
    assert o1.received(str(o1.parties.merchant)) == MERCHANT
    assert (Code.RAIL_FROZEN, f"rail:{RAIL}") not in await o1.memo()


async def test_a_receiver_that_always_fails_waits_for_an_operator_and_then_for_the_merchant(o1: Paid) -> None:
    account = o1.accounts[str(o1.parties.individual)]
    o1.paysim.fault("share_failure", count=None, match={"account": account})
    await deliver(o1)
    await o1.sweep(days=15)
    for _ in range(4):
        await o1.sweep(days=2)
    async with o1.db.reading(SYSTEM) as session:
        waiting = (await queries.refused_requests_page(session, SYSTEM, PageRequest(10))).items
    mine = [request for request in waiting if request.order_id == o1.order_id]
    assert [each.payee_id for request in mine for each in request.instructions] == [
        str(o1.parties.individual)
    ]
    assert (await o1.view()).closed_at is None

    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.abandon_refused(session, mine[0].id, now=o1.clock.now())
    with pytest.raises(RailRequestNotRefused):
        async with o1.db.unit_of_work(SYSTEM) as session:
            await service.retry_refused(session, mine[0].id, now=o1.clock.now())
    await o1.sweep(days=2)
    assert o1.received(str(o1.parties.merchant)) == MERCHANT + 450
    assert (Code.RAIL_FROZEN, f"rail:{RAIL}") not in await o1.memo()
    assert (Code.RAIL_ENTITLED, f"party:{o1.parties.individual}") not in await o1.memo()


async def test_a_refusal_gives_everybody_its_part_back_until_an_operator_retries(o1: Paid) -> None:
    await deliver(o1)
    merchant = o1.accounts[str(o1.parties.merchant)]
    o1.paysim.admin("POST", f"/sharing/merchants/{merchant}", max_outward_ppm=100_000)
    await o1.sweep()
    request = (await o1.view()).requests[0]
    assert (request.status, request.failure) == (RequestStatus.REFUSED, "OUTWARD_CAP_EXCEEDED")
    assert (await o1.memo())[Code.RAIL_ENTITLED, f"party:{o1.parties.supplier}"] == -4_800

    o1.paysim.admin("POST", f"/sharing/merchants/{merchant}", max_outward_ppm=700_000)
    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.retry_refused(session, request.id, now=o1.clock.now())
    await o1.sweep(days=15)
    await o1.sweep(days=2)
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)
    assert o1.received(str(o1.parties.merchant)) == MERCHANT


async def test_when_the_freeze_ends_first_the_books_follow_the_rail(o1: Paid) -> None:
    await deliver(o1)
    o1.paysim.clock.advance(timedelta(days=181))
    assert await o1.send() == 1
    assert set(await o1.statuses()) == {RequestStatus.LOST}
    assert await o1.memo() == {}
    assert o1.received(str(o1.parties.merchant)) == 10_326
    assert await o1.send() == 0


async def test_requests_of_a_rail_this_process_cannot_reach_wait(o1: Paid) -> None:
    await deliver(o1)
    for sweep in (service.send_shares, service.resolve_shares, service.send_shared_refunds):
        assert await sweep(o1.db, rails={}, clock=o1.clock) == 0
    assert set(await o1.statuses()) == {RequestStatus.PLANNED}
    await o1.sweep()
    assert await o1.paid() == {str(o1.parties.supplier): 4_800}


async def test_a_notice_is_a_hint_to_ask_now(o1: Paid) -> None:
    await deliver(o1)
    o1.paysim.fault("share_delay", seconds=40)
    await o1.send()
    o1.paysim.clock.advance(timedelta(seconds=45))
    assert await o1.resolve() == 0
    request = (await o1.view()).requests[0].id
    async with o1.db.unit_of_work(SYSTEM) as session:
        await service.hasten(session, str(request), now=o1.clock.now())
    assert await o1.resolve() == 1
    assert await o1.paid() == {str(o1.parties.supplier): 4_800}


async def test_what_was_told_is_what_the_bill_lists(o1: Paid) -> None:
    await deliver(o1)
    await o1.sweep(days=15)
    await o1.sweep(days=1)
    since = o1.order.paid_at - timedelta(days=1)
    until = o1.clock.now() + timedelta(days=1)
    async with o1.db.reading(SYSTEM) as session:
        told = await queries.told_movements(session, rail=RAIL, since=since, until=until)
    ours = {
        (each.number, each.account, each.amount_minor) for each in told if each.payment_id == o1.payment.id
    }
    o1.paysim.clock.advance(timedelta(days=2))
    days = [(o1.order.paid_at + timedelta(days=n)).date() for n in range(18)]
    billed = [row for day in days for row in await o1.rail.bill(day) if row.payment_id == o1.payment.id]
    shares = {
        (row.number, row.receiver.account, row.amount_minor)
        for row in billed
        if row.kind == "SHARE" and row.receiver is not None
    }
    assert shares == ours
    assert len(ours) == 4
    matched = 0
    for day in days:
        report = await reconcile_bill(o1.db, o1.rail, day, clock=o1.clock)
        # Payments of other tests are on the bill too, and nobody recorded them here.
        assert [each for each in report.differences if each.payment_id == o1.payment.id] == []
        matched += report.matched
    assert matched >= 4


WORKER = """
import asyncio, sys
from core.clock import SharedClock
from infra.db.session import Database, make_engine
from infra.payments.profit_sharing import ProfitSharing
from supply.settlement.rails import service
from pathlib import Path

async def main(url, base, key, clock_file):
    clock = SharedClock(Path(clock_file))
    rail = ProfitSharing(base=base, key=key, clock=clock)
    db = Database(make_engine(url, pool_size=2))
    await service.send_shares(db, rails={"profit_sharing": rail}, clock=clock)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_crash_after_rail_call_before_commit(o1: Paid, postgres: Any) -> None:
    """kill -9 of the process that sends, while the rail's answer is on its way: paid once, settled once."""
    await deliver(o1)
    # The receivers are known, so that the first call is the one that shares.
    await o1.rail.add_receiver(
        merchant_id=o1.accounts[str(o1.parties.merchant)],
        receiver=Receiver(ReceiverKind.MERCHANT, o1.accounts[str(o1.parties.supplier)]),
        relation=Relation.SUPPLIER,
    )
    async with unanswered(o1.paysim.url, "POST /sharing/v1/orders") as line:
        await killed_in_the_call(
            line, WORKER, postgres.url(), line.url, KEY, str(o1.paysim.data_dir / "clock")
        )
    request = (await o1.view()).requests[0].id
    known = await o1.rail.retrieve_share(
        merchant_id=o1.accounts[str(o1.parties.merchant)], payment_id=o1.payment.id, order_no=str(request)
    )
    assert known is not None
    assert (await o1.statuses())[0] is RequestStatus.SENDING

    await o1.sweep(days=15)
    assert {payee: o1.received(payee) for payee in everybody(o1)} == everybody(o1)
    assert await o1.paid() == everybody(o1)
