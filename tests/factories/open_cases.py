"""What is open in a filled market: returns, disputes, debts, contests, money on rails and on its way to banks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.ids import PromoterId, RefundId
from core.money import Money
from core.pagination import PageRequest
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway, Payout
from infra.payments.profit_sharing import CAPABILITIES
from marketplace.orders import queries as orders
from marketplace.orders import returning
from marketplace.orders.returning import ReturnCommand
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import platform_payouts, queries
from supply.settlement import service as settlement
from supply.settlement.bank_payouts import refresh_bank_payout
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.evidence import give_evidence
from supply.settlement.parties import party_account, platform_account, provider_account
from supply.settlement.rails import service as rails
from supply.settlement.reconciliation.postings import collect_postings
from supply.settlement.reconciliation.service import reconcile
from supply.settlement.refunds import RefundPlan
from supply.settlement.split_plan import PayeeKind
from supply.settlement.statements import contesting
from tests.factories.filled_market import FilledMarket
from tests.factories.settlement import Parties, dispute_of, line_of_o1, order_of

DISPUTE = "du_market"
_CHARGE = text("SELECT charge_id FROM split_orders WHERE order_id = :id")
_OPERATOR = Actor(ActorKind.PLATFORM, None, scopes=frozenset({"platform:admin"}))


class _Bank:
    """A provider that knows one payout of a party to its bank."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    async def retrieve_payout(self, payout_id: str, *, account: str | None = None) -> Payout:
        return Payout(
            payout_id, 900, "CNY", "in_transit", False, self._at + timedelta(days=2), None, None, None, False,
            self._at,
        )  # fmt: skip


class _EmptyBook:
    """A provider that lists nothing."""

    name = "stripe"

    async def rows(self, since: datetime | None, until: datetime) -> AsyncIterator[Any]:
        for none in ():
            yield none

    async def balance(self) -> None:
        return None

    async def automatic_payouts(self, since: datetime | None) -> AsyncIterator[Any]:
        for none in ():
            yield none

    async def collect_ours(self, session: AsyncSession) -> int:
        return await collect_postings(session, self.name)


async def open_cases(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    merchant, supplier = market.shop.promotion.merchant, market.shop.source.supplier_id
    async with db.unit_of_work(SYSTEM) as session:
        await _return(session, market, clock)
        await _dispute(session, market, clock)
        await _debt(session, market, clock)
        await _contest(session, str(supplier), clock)
        await _on_a_rail(session, market, clock)
        await _platforms_own(session, clock)
    bank = cast("PaymentGateway", _Bank(clock.now()))
    await refresh_bank_payout(
        db, "po_private", account_id=f"acct_private_{merchant.brand_id.hex}", payments=bank, clock=clock
    )
    await reconcile(db, _EmptyBook(), clock=clock)


async def _return(session: AsyncSession, market: FilledMarket, clock: FixedClock) -> None:
    delivered = market.orders[0]
    (line,) = (await orders.lines_of(session, [delivered]))[delivered]
    command = ReturnCommand(delivered, {line.id: 1}, reason="a private reason")
    await returning.announce(session, market.shop.promotion.merchant, command, clock=clock)


async def _dispute(session: AsyncSession, market: FilledMarket, clock: FixedClock) -> None:
    charge = (await session.execute(_CHARGE, {"id": market.orders[-1]})).scalar_one()
    facts = replace(
        dispute_of(charge, dispute_id=DISPUTE, amount_minor=4_000),
        evidence_due_at=clock.now() + timedelta(days=9),
    )
    await apply_dispute(session, facts, provider="stripe", now=clock.now())
    said = {"uncategorized_text": "PRIVATE"}
    await give_evidence(session, market.shop.promotion.merchant, DISPUTE, said, clock=clock, final=False)


async def _debt(session: AsyncSession, market: FilledMarket, clock: FixedClock) -> None:
    merchant = market.shop.promotion.merchant.brand_id
    owed = party_account(Code.RECEIVABLE, str(merchant), "CNY", merchant)
    legs = (debit(owed, 700), credit(platform_account(Code.FEE_REVENUE, "CNY"), 700))
    await ledger.post(session, Journal("market:debt", "adjusted", legs, clock.now()), now=clock.now())
    await settlement.ask_write_off(
        session, _OPERATOR, str(merchant), "CNY", 500, reason="a private reason", clock=clock,
        tenant_id=merchant,
    )  # fmt: skip


async def _contest(session: AsyncSession, party: str, clock: FixedClock) -> None:
    (statement,) = (await queries.statements_page(session, SYSTEM, PageRequest(1), payee_id=party)).items
    document = json.loads(await queries.statement_document(session, SYSTEM, statement.id) or "")
    entry = next(
        line["entry"]
        for section in document["sections"]
        for line in section["lines"]
        if line["event"] == "capture"
    )
    await contesting.contest(
        session, party, statement.id, entry=entry, claimed_minor=1, reason="a private reason", now=clock.now()
    )


async def _on_a_rail(session: AsyncSession, market: FilledMarket, clock: FixedClock) -> None:
    """The newest order again, as if it had been paid on a sharing rail, and a part of it refunded."""
    promotion = market.shop.promotion
    parties = Parties(
        promotion.merchant.brand_id, market.shop.source.supplier_id, promotion.promoter.brand_id,
        PromoterId.new(),
    )  # fmt: skip
    kinds = {
        str(parties.merchant): PayeeKind.MERCHANT, str(parties.supplier): PayeeKind.BUSINESS,
        str(parties.promoter_brand): PayeeKind.BUSINESS, str(parties.individual): PayeeKind.INDIVIDUAL,
        "platform": PayeeKind.PLATFORM,
    }  # fmt: skip
    for payee, kind in kinds.items():
        await rails.register_rail_account(
            session,
            payee,
            rail=CAPABILITIES.name,
            kind=kind,
            account_id=f"acct_private_{payee}",
            now=clock.now(),
        )
    order = order_of(
        parties, [line_of_o1(parties)], order_id=market.orders[-1], paid_at=clock.now(), charge_id="rail"
    )
    allowed = replace(CAPABILITIES, max_outward_ppm=700_000)
    await rails.record_shared_payment(
        session, order, payment_id="pay_private", fee_minor=62, rail=allowed, clock=clock
    )
    plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=100)
    await rails.refund_shared(session, plan, now=clock.now())


async def _platforms_own(session: AsyncSession, clock: FixedClock) -> None:
    """Its own money at the provider, part of it asked for."""
    held = provider_account(Code.PROVIDER_AVAILABLE, "stripe", "CNY")
    legs = (debit(held, 500_000), credit(platform_account(Code.FEE_REVENUE, "CNY"), 500_000))
    await ledger.post(session, Journal("market:own", "adjusted", legs, clock.now()), now=clock.now())
    await platform_payouts.request_platform_payout(
        session, _OPERATOR, Money(1, "CNY"), reference="PRIVATE", now=clock.now()
    )
