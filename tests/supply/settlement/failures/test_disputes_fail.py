"""money.md §6, disputes at the real provider: notices lost, early, late, repeated; verdicts, evidence, recovery."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.money import Money
from infra.payments.errors import ProviderRefused
from infra.payments.gateway import PaymentGateway
from marketplace.orders import notices
from marketplace.orders.models import RefundStatus
from supply.ledger.chart import Code
from supply.settlement.disputes import applying, evidence
from supply.settlement.disputes import queries as disputes
from supply.settlement.disputes.errors import (
    DisputeDecided,
    DisputeNotFound,
    EvidenceInvalid,
    EvidenceSubmitted,
    EvidenceTooLate,
)
from supply.settlement.disputes.stages import Stage
from supply.settlement.errors import OrderDisputed
from supply.settlement.reversing import recover_debts
from tests.fixtures.buying import Bought, bought, deaf, paid_out, signed
from tests.services.api.conftest import Paying


class Case:
    """A dispute at the provider of an order of ours."""

    def __init__(self, order: Bought, **options: Any) -> None:
        self.order, self.paysim = order, order.shopper.provider
        self.opened = self.paysim.admin("POST", "/disputes", charge=order.charge_id, **options)
        self.id: str = self.opened["id"]

    def verdict(self, status: str) -> None:
        self.paysim.admin("POST", f"/disputes/{self.id}/close", status=status)

    async def tell(self, type: str) -> None:
        for raw in self.order.notices(f"charge.dispute.{type}", about=self.id):
            assert (await self.order.tell(raw)).status_code == 200
        await self.order.work()

    async def stage(self) -> Stage | None:
        found = await self.order.shopper.one(f"SELECT max(stage) FROM disputes WHERE id = '{self.id}'")
        return Stage(found) if found else None

    async def sweep(self) -> int:
        gateways, clock = self.order.shopper.served.gateways, self.order.shopper.clock
        return await applying.sweep_disputes(gateways.db, payments=gateways.payments, clock=clock)


async def test_dispute_closed_before_created(paying_shopper: Paying) -> None:
    case = Case(await bought(paying_shopper))
    case.verdict("lost")

    for type in ("closed", "funds_withdrawn", "created", "closed"):
        await case.tell(type)

    assert await case.stage() is Stage.LOST
    trial = await case.order.trial()
    assert Code.DISPUTE_RECEIVABLE not in trial
    assert Code.RESERVED not in trial
    assert trial[Code.DISPUTE_FEE] == 1_500
    await case.order.hold()


async def test_a_notice_of_a_dispute_twice_five_at_once_after_three_days(paying_shopper: Paying) -> None:
    case = Case(await bought(paying_shopper))
    (raw,) = case.order.notices("charge.dispute.funds_withdrawn")

    await asyncio.gather(*(case.order.tell(raw) for _ in range(5)))
    await asyncio.gather(case.order.work(), case.tell("created"))
    before = await case.order.trial()
    paying_shopper.clock.advance(timedelta(days=3))
    await case.order.tell(raw)
    await case.order.work()

    assert await case.order.trial() == before
    assert before[Code.DISPUTE_RECEIVABLE] == 10_500
    await case.order.hold()


async def test_a_dispute_whose_webhook_never_arrives(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("webhook_drop", count=None)
    case = Case(order)
    gateways, clock = paying_shopper.served.gateways, paying_shopper.clock

    assert await applying.find_missed_disputes(gateways.db, payments=gateways.payments, clock=clock) > 0
    assert await applying.find_missed_disputes(gateways.db, payments=gateways.payments, clock=clock) == 0
    assert await case.stage() is Stage.OPEN
    case.verdict("won")
    assert await case.sweep() == 0  # asked a moment ago
    clock.advance(timedelta(minutes=10))
    assert await case.sweep() == 1

    assert await case.stage() is Stage.WON
    assert {b.reserved_minor for b in (await order.balances()).values()} == {0}
    await order.hold()


async def test_a_dispute_before_the_capture_is_known_is_parked(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper, tell=False)
    case = Case(order)
    await case.tell("created")
    assert await case.stage() is Stage.NOTICED

    (paid,) = order.notices("payment_intent.succeeded")
    await order.tell(paid)
    await order.work()
    paying_shopper.clock.advance(timedelta(minutes=2))
    gateways = paying_shopper.served.gateways
    tried = await notices.sweep_notices(gateways.db, payments=gateways.payments, clock=paying_shopper.clock)

    assert tried == 1
    assert await case.stage() is Stage.OPEN
    merchant, supplier = (await order.balances()).values()
    assert (merchant.pending_minor, supplier.pending_minor) == (0, 0)
    await order.hold()


async def test_forged_or_old_signature_other_accounts_event(paying_shopper: Paying) -> None:
    case = Case(await bought(paying_shopper))
    (raw,) = case.order.notices("charge.dispute.created")
    now = paying_shopper.clock.now().timestamp()
    kept = await paying_shopper.one("SELECT count(*) FROM provider_events")
    foreign = raw.replace(b'{"id":"evt_', b'{"account":"acct_of_somebody","id":"evt_', 1)
    assert foreign != raw

    for body, header in (
        (raw, None),
        (raw, signed(raw, now, "whsec_forged")),
        (raw.replace(b"needs_response", b"won"), signed(raw, now)),
        (raw, signed(raw, now - 301)),
        (foreign, signed(foreign, now)),
    ):
        assert (await paying_shopper.tell(body, header)).status_code == 400

    assert await paying_shopper.one("SELECT count(*) FROM provider_events") == kept
    assert await case.stage() is None


async def test_an_inquiry_is_answered_and_escalates(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    before = await order.trial()
    case = Case(order, inquiry=True)
    await case.tell("created")
    assert (await case.stage(), await order.trial()) == (Stage.INQUIRY, before)

    case.paysim.admin("POST", f"/disputes/{case.id}/escalate")
    await case.tell("funds_withdrawn")

    assert await case.stage() is Stage.OPEN
    assert (await order.trial())[Code.DISPUTE_RECEIVABLE] == 10_500
    await order.hold()


async def test_a_refund_during_a_dispute_is_refused_and_one_under_way_is_frozen_again(
    paying_shopper: Paying,
) -> None:
    # Asked for before the bank withdrew everything: the provider refuses it, its shares come back and freeze.
    order = await bought(paying_shopper)
    await order.refund(amount=Money(4_000, "CNY"))
    case = Case(order)
    await case.tell("created")

    assert [r.status for r in await order.refunds()] == [RefundStatus.FAILED]
    merchant, supplier = (await order.balances()).values()
    assert (merchant.pending_minor, supplier.pending_minor) == (0, 0)
    with pytest.raises(OrderDisputed):
        await order.refund(everything=True)
    case.verdict("lost")
    await case.tell("closed")
    trial = await order.trial()
    assert Code.CHARGEBACK_LOSS not in trial
    assert {b.net_minor for b in (await order.balances()).values()} == {0}
    await order.hold()


async def test_evidence_is_sent_by_the_worker_and_wins(paying_shopper: Paying) -> None:
    order, shop = await bought(paying_shopper), paying_shopper.shop
    case = Case(order)
    await case.tell("created")
    db, clock, merchant = paying_shopper.db, paying_shopper.clock, shop.promotion.merchant

    async def give(actor: Any, fields: dict[str, str], **options: Any) -> None:
        async with db.unit_of_work(SYSTEM) as session:
            await evidence.give_evidence(session, actor, case.id, fields, clock=clock, **options)

    with pytest.raises(DisputeNotFound):
        await give(shop.promotion.promoter, {"uncategorized_text": "not mine"})
    for wrong in ({"unknown_field": "x"}, {"customer_name": " "}, {"uncategorized_text": "x" * 20_001}):
        with pytest.raises(EvidenceInvalid):
            await give(merchant, wrong)
    await give(merchant, {"product_description": "a cream"}, final=False)
    await give(merchant, {"uncategorized_text": "winning_evidence"})
    with pytest.raises(EvidenceSubmitted):
        await give(merchant, {"uncategorized_text": "more"})
    async with db.reading(merchant) as session:
        said = await disputes.evidence_of(session, merchant, case.id)
    assert [(each.final, each.status) for each in said] == [(False, "queued"), (True, "queued")]
    await order.work()

    assert await case.stage() is Stage.WON
    async with db.reading(merchant) as session:
        (view,) = await disputes.of_orders(session, merchant, [order.order_id])
        said = await disputes.evidence_of(session, merchant, case.id)
    assert (view.stage, view.amount_minor, view.evidence_submissions) == (Stage.WON, 10_500, 1)
    assert [each.status for each in said] == ["sent", "sent"]
    with pytest.raises(DisputeDecided):
        await give(merchant, {"uncategorized_text": "late"})
    await order.hold()


async def test_evidence_that_is_too_late_is_refused_and_a_loss_can_be_conceded(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    case = Case(order)
    await case.tell("created")
    paying_shopper.clock.advance(timedelta(days=10))
    merchant, clock = paying_shopper.shop.promotion.merchant, paying_shopper.clock

    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        with pytest.raises(EvidenceTooLate):
            await evidence.give_evidence(
                session, merchant, case.id, {"uncategorized_text": "sorry"}, clock=clock
            )
        await evidence.concede(session, merchant, case.id, clock=clock)
    await order.work()

    assert await case.stage() is Stage.LOST
    await order.hold()


async def recover(order: Bought, payments: PaymentGateway | None = None) -> int:
    gateways = order.shopper.served.gateways
    return await recover_debts(gateways.db, payments=payments or gateways.payments, clock=order.shopper.clock)


async def test_dispute_after_full_payout(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    await paid_out(order)
    case = Case(order)
    case.verdict("lost")
    await case.tell("closed")
    owed = {name: b.receivable_minor for name, b in (await order.balances()).items()}
    # 10,000 less 1,150 tax, 3,000 cost and 443 fee (5 % of 8,850) stay with the merchant; 3,500 with the supplier.
    assert owed == {"merchant": 5_407, "supplier": 3_500}
    assert await recover(order) == 0  # the policy waits three days for earnings
    paying_shopper.clock.advance(timedelta(days=4))

    assert await recover(order) == 5_407 + 3_500
    assert {b.net_minor for b in (await order.balances()).values()} == {0}
    case.verdict("won")
    for raw in order.notices("charge.dispute.funds_reinstated", about=case.id):
        await order.tell(raw)
    await order.work()

    assert await case.stage() is Stage.WON
    assert {name: b.available_minor for name, b in (await order.balances()).items()} == owed
    await order.hold()


async def test_dispute_won_after_lost_share_netted(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await paid_out(order)
    case = Case(order)
    case.verdict("lost")
    await case.tell("closed")
    owed = {name: b.receivable_minor for name, b in (await order.balances()).items()}
    await paid_out(await bought(paying_shopper), cycle="c2")  # the same again: it pays off what they owe
    netted = "SELECT count(*) FROM ledger_journals WHERE kind = 'netting'"
    assert await paying_shopper.one(netted) == 2
    assert await paying_shopper.one("SELECT count(*) FROM payouts") == 2  # of the first order only

    case.verdict("won")
    for raw in order.notices("charge.dispute.funds_reinstated", about=case.id):
        await order.tell(raw)
    await order.work()

    balances = await order.balances()
    assert {name: b.available_minor for name, b in balances.items()} == owed
    assert {b.receivable_minor for b in balances.values()} == {0}
    await order.hold()


async def test_reversal_fails_for_balance(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await paid_out(order)
    case = Case(order)
    case.verdict("lost")
    await case.tell("closed")
    paying_shopper.provider.fault("reversal_refusal", count=None)
    paying_shopper.clock.advance(timedelta(days=4))

    assert await recover(order) == 0
    assert await recover(order) == 0  # and is left to the next earnings for a day
    assert await paying_shopper.one("SELECT count(*) FROM recoveries WHERE status = 'refused'") == 2
    owed = {name: b.receivable_minor for name, b in (await order.balances()).items()}
    assert owed == {"merchant": 5_407, "supplier": 3_500}
    paying_shopper.provider.admin("DELETE", "/faults")
    paying_shopper.clock.advance(timedelta(days=1, seconds=1))
    assert await recover(order) == 5_407 + 3_500
    await order.hold()


async def test_response_to_a_reversal_lost_after_execution(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await paid_out(order)
    case = Case(order)
    case.verdict("lost")
    await case.tell("closed")
    paying_shopper.clock.advance(timedelta(days=4))
    paying_shopper.provider.fault("drop_response", count=2, match={"operation": "transfers.reverse"})
    gateways = paying_shopper.served.gateways
    async with deaf(paying_shopper.provider) as payments:
        assert await recover(order, payments) == 0  # two asked, nobody heard
    assert await paying_shopper.one("SELECT count(*) FROM recoveries WHERE status = 'sending'") == 2
    paying_shopper.provider.admin("DELETE", "/faults")
    paying_shopper.clock.advance(timedelta(hours=25))

    assert await recover(order) == 5_407 + 3_500
    transfers = paying_shopper.provider.get("/v1/transfers", limit=2).json()["data"]
    assert sum(each["amount_reversed"] for each in transfers) == 5_407 + 3_500
    assert gateways.payments.capabilities().idempotency_hours == 24
    await order.hold()


async def test_the_provider_refuses_a_refund_of_a_disputed_charge(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    Case(order)
    with pytest.raises(ProviderRefused):
        await paying_shopper.served.gateways.payments.refund(
            charge_or_intent=order.charge_id, amount_minor=1, key="r"
        )
