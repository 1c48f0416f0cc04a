"""Attribute an order once: load its touches, credit, and store the decision with everything it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import sha256_hex, to_micros
from core.clock import Clock
from core.ids import (
    AgreementId,
    BrandId,
    CommissionLineId,
    ContactId,
    DecisionId,
    LinkId,
    OrderId,
    OrderLineId,
    ProductId,
    TouchId,
)
from infra import outbox
from infra.db.base import table_of
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.limits import Limit, budget_key
from marketplace.promotion.agreements.terms import category_path
from marketplace.promotion.attribution.crediting import (
    Adjustment,
    Amounts,
    Credit,
    LineMoney,
    ShareEarned,
    credit,
)
from marketplace.promotion.attribution.decision import decide
from marketplace.promotion.commission.rules import OrderDiscount
from marketplace.promotion.coupons.entries import judge_entries
from marketplace.promotion.decisions.return_window import lengthened
from marketplace.promotion.errors import InvalidTouchToken
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.facts import LineFact, OrderFact, canonical_inputs, keys_of
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.models import (
    AttributionDecision,
    CommissionLine,
    CommissionShare,
    CommissionStatus,
    ShareRole,
)
from marketplace.promotion.offers import budgets
from marketplace.promotion.touches.touch_facts import TouchesOfOrder, touch_facts_for
from marketplace.promotion.touches.touch_token import SignedTouch, TouchSigner

UNDELIVERED_DAYS = 45
"""A line is expected to be due so long after payment as nothing was delivered (cps.md §2), and never before the longest
return window of its order could be over."""
_DECISIONS = table_of(AttributionDecision)
_NEW_DECISION = upsert(_DECISIONS).on_conflict_do_nothing(index_elements=["order_id"])
_NEW_LINES = insert(table_of(CommissionLine))
_NEW_SHARES = insert(table_of(CommissionShare))
_STORED = text(
    "SELECT d.id AS decision_id, d.input_hash, l.id, l.order_line_id, l.agreement_id, l.agreement_version,"
    " l.basis_minor, l.commission_minor, l.rate_ppm, l.return_window_days, s.position, s.role, s.payee, s.touch_id,"
    " s.earned_minor FROM attribution_decisions d LEFT JOIN commission_lines l ON l.decision_id = d.id"
    " LEFT JOIN commission_shares s ON s.commission_line_id = l.id WHERE d.order_id = :order"
    " ORDER BY l.id, s.position"
)


@dataclass(frozen=True, slots=True)
class LineForAttribution:
    """``gross_minor`` for the whole quantity, ``tax_ppm`` of the tax inside it (0 when tax is on top)."""

    order_line_id: OrderLineId
    product_id: ProductId | None
    """None, with no ``sku``, of what is not in the catalogue: only rules of its category or of everything fit."""
    sku: str
    category: str
    quantity: int
    gross_minor: int
    discount_minor: int = 0
    tax_ppm: int = 0


@dataclass(frozen=True, slots=True)
class OrderForAttribution:
    """One merchant's order when its payment was captured.

    ``touch_tokens`` are what the storefront passed on; one that was not signed here is ignored. Keys and
    hashes are keyed digests of the platform (``audiences.identity.person_key``).
    """

    order_id: OrderId
    advertiser_id: BrandId
    currency: str
    created_at: datetime
    lines: Sequence[LineForAttribution]
    touch_tokens: Sequence[str] = ()
    discounts: Sequence[OrderDiscount] = ()
    checkout_started_at: datetime | None = None
    paid_at: datetime | None = None
    is_new_customer: bool = False
    session_keys: Sequence[bytes] = ()
    contact_ids: Sequence[ContactId] = ()
    lead_contact_ids: Sequence[ContactId] = ()
    """Other brands' contacts of the same person: only leads of theirs count."""
    entered: Sequence[TouchId] = ()
    """Of promoters' codes the order was placed with."""
    buyer_keys: frozenset[str] = frozenset()
    buyer_staff_of: frozenset[BrandId] = frozenset()
    payment_instrument_hash: str | None = None
    address_hash: str | None = None


@dataclass(frozen=True, slots=True)
class LineAttributed:
    """``shares`` sum to ``commission_minor``; the platform's payee is ``platform``."""

    commission_line_id: CommissionLineId
    order_line_id: OrderLineId
    agreement_id: AgreementId
    agreement_version: int
    basis_minor: int
    commission_minor: int
    rate_ppm: int
    return_window_days: int
    shares: tuple[ShareEarned, ...]


@dataclass(frozen=True, slots=True)
class Attributed:
    """Lines that nobody sold are left out."""

    decision_id: DecisionId
    order_id: OrderId
    input_hash: str
    lines: tuple[LineAttributed, ...]
    adjustments: tuple[Adjustment, ...] = ()
    """Only of the call that stored them."""


async def attribute(
    session: AsyncSession, order: OrderForAttribution, *, signer: TouchSigner, clock: Clock
) -> Attributed:
    """Decide who sold an order and what they earn, and store it. A second call returns what the first stored.

    At most five statements, the outbox included, in a SYSTEM transaction; one more where a promoter's code was
    entered, three for each order that is sold under caps or tiers and three under a campaign's budget, whose
    counters stay locked until it ends.
    """
    found = await touch_facts_for(
        session,
        advertiser_id=order.advertiser_id,
        currency=order.currency,
        signed=_signed(order.touch_tokens, signer),
        until=order.paid_at or order.created_at,
        contact_ids=order.contact_ids,
        lead_contact_ids=order.lead_contact_ids,
        session_keys=order.session_keys,
        entered=order.entered,
        buyer_keys=sorted(order.buyer_keys),
    )
    facts, amounts = _order_fact(order, found), _amounts(order, found)
    if found.watched:
        awards = decide(facts, found.touches, found.agreements).awards
        amounts = replace(amounts, splits=lengthened(amounts.splits, awards, found.watched))
    held, limits = await _hold_limits(session, order, facts, found)
    amounts = replace(amounts, limits=limits)
    credited = credit(facts, found.touches, found.agreements, amounts)
    row = _decision_row(
        order, found, amounts, credited, canonical_inputs(facts, found.touches, found.agreements)
    )
    row["decided_at"] = clock.now()
    stored = await session.execute(_NEW_DECISION.returning(_DECISIONS.c.id), row)
    if stored.first() is None:
        return await attributed(session, order.order_id)
    lines = await _store_lines(
        session, order, row["id"], credited, found.links, clock.now(), held, found.budgets
    )
    for each in held:
        await _reserve(session, each, credited)
    await _reserve_budgets(session, found.budgets, lines, credited, clock)
    await judge_entries(session, found.touches)
    await outbox.record(session, OrderCredited(order.order_id, row["id"]))
    return Attributed(row["id"], order.order_id, row["input_hash"], lines, credited.adjustments)


async def _hold_limits(
    session: AsyncSession, order: OrderForAttribution, facts: OrderFact, found: TouchesOfOrder
) -> tuple[list[counters.Held], tuple[Limit, ...]]:
    """The counters of the agreements that win lines of this order, as far as they have caps or tiers, and what holds
    for each, its campaign's budget included."""
    if not (found.limited or found.budgets):
        return [], ()
    awards = decide(facts, found.touches, found.agreements).awards
    wanted = []
    for award in awards:
        terms = found.limited.get((award.agreement_id, award.agreement_version))
        if terms is not None:
            last = award.winners[-1]
            promoter = last.promoter_id or last.promoter_brand_id
            wanted.append(counters.Wanted(award.agreement_id, award.agreement_version, terms, promoter))
    paid_at = order.paid_at or order.created_at
    held = await counters.hold(session, wanted, currency=order.currency, paid_at=paid_at)
    limits = {each.limit.agreement_id: each.limit for each in held}
    campaigns = {
        a.agreement_id: found.budgets[a.agreement_id] for a in awards if a.agreement_id in found.budgets
    }
    left = await budgets.hold(session, set(campaigns.values()))
    versions = {award.agreement_id: award.agreement_version for award in awards}
    for agreement_id, campaign_id in campaigns.items():
        limit = limits.get(agreement_id) or Limit(agreement_id, versions[agreement_id])
        limits[agreement_id] = replace(limit, budget=left[campaign_id])
    return held, tuple(limits.values())


async def _reserve(session: AsyncSession, held: counters.Held, credited: Credit) -> None:
    lines = [line for line in credited.lines if line.agreement_id == held.limit.agreement_id]
    owed = [a.amount_minor for a in credited.adjustments if a.agreement_id == held.limit.agreement_id]
    await counters.reserve(
        session,
        held,
        commission_minor=sum(line.commission_minor for line in lines) + sum(owed),
        basis_minor=sum(line.basis_minor for line in lines),
    )


async def _reserve_budgets(
    session: AsyncSession,
    campaigns: Mapping[str, CampaignId],
    lines: Sequence[LineAttributed],
    credited: Credit,
    clock: Clock,
) -> None:
    taken = [
        budgets.Taken(line.commission_line_id, campaigns[str(line.agreement_id)], line.commission_minor)
        for line in lines
        if str(line.agreement_id) in campaigns
    ]
    owed: dict[CampaignId, int] = {}
    for each in credited.adjustments:
        if each.agreement_id in campaigns:
            campaign_id = campaigns[each.agreement_id]
            owed[campaign_id] = owed.get(campaign_id, 0) + each.amount_minor
    await budgets.reserve(session, taken, owed, clock=clock)


async def attributed(session: AsyncSession, order_id: OrderId) -> Attributed:
    """What was stored for an order. Raises ``LookupError`` when it was never attributed. One statement."""
    rows = (await session.execute(_STORED, {"order": order_id})).all()
    if not rows:
        raise LookupError(f"{order_id} was not attributed")
    shares: dict[CommissionLineId, list[ShareEarned]] = {}
    heads: dict[CommissionLineId, Any] = {}
    for row in rows:
        if row.id is None:
            continue
        line_id = CommissionLineId.of(row.id)
        heads[line_id] = row
        shares.setdefault(line_id, []).append(
            ShareEarned(
                row.position, ShareRole(row.role), row.payee, str(TouchId.of(row.touch_id)), row.earned_minor
            )
        )
    lines = tuple(
        LineAttributed(
            line_id,
            OrderLineId.of(row.order_line_id),
            AgreementId.of(row.agreement_id),
            row.agreement_version,
            row.basis_minor,
            row.commission_minor,
            row.rate_ppm,
            row.return_window_days,
            tuple(shares[line_id]),
        )
        for line_id, row in heads.items()
    )
    return Attributed(DecisionId.of(rows[0].decision_id), order_id, rows[0].input_hash, lines)


def _signed(tokens: Sequence[str], signer: TouchSigner) -> list[SignedTouch]:
    touches = []
    for token in tokens:
        try:
            touches.append(signer.read(token))
        except InvalidTouchToken:
            continue  # forged or cut short: it proves nothing, and must not stop the order
    return touches


def _order_fact(order: OrderForAttribution, found: TouchesOfOrder) -> OrderFact:
    began, paid = order.checkout_started_at, order.paid_at
    return OrderFact(
        id=str(order.order_id),
        advertiser_id=str(order.advertiser_id),
        created_at_us=to_micros(order.created_at),
        lines=tuple(
            LineFact(
                str(line.order_line_id), line.sku, str(line.product_id or ""), category_path(line.category)
            )
            for line in order.lines
        ),
        checkout_started_at_us=None if began is None else to_micros(began),
        paid_at_us=None if paid is None else to_micros(paid),
        is_new_customer=order.is_new_customer,
        buyer_keys=keys_of(order.buyer_keys),
        buyer_staff_of=keys_of(found.buyer_staff_of | {str(brand) for brand in order.buyer_staff_of}),
        buyer_payout_hash=found.buyer_payout_hash,
        payment_instrument_hash=order.payment_instrument_hash,
        address_hash=order.address_hash,
    )


def _amounts(order: OrderForAttribution, found: TouchesOfOrder) -> Amounts:
    lines = tuple(
        LineMoney(str(x.order_line_id), x.quantity, x.gross_minor, x.discount_minor, x.tax_ppm)
        for x in order.lines
    )
    return Amounts(order.currency, lines, tuple(order.discounts), found.splits)


def _decision_row(
    order: OrderForAttribution, found: TouchesOfOrder, amounts: Amounts, credited: Credit, inputs: str
) -> dict[str, Any]:
    amounts_text, result = amounts.text(), credited.text()
    return {
        "id": DecisionId.new(), "order_id": order.order_id, "advertiser_id": order.advertiser_id,
        "promoter_brand_ids": sorted({BrandId.parse(touch.promoter_brand_id) for touch in found.touches}),
        "rule_version": credited.decision.rule_version, "input": inputs,
        "input_hash": credited.decision.input_hash, "amounts": amounts_text,
        "amounts_hash": sha256_hex(amounts_text), "result": result, "result_hash": sha256_hex(result),
    }  # fmt: skip


async def _store_lines(
    session: AsyncSession,
    order: OrderForAttribution,
    decision_id: DecisionId,
    credited: Credit,
    links: Mapping[str, LinkId],
    now: datetime,
    held: Sequence[counters.Held],
    campaigns: Mapping[str, CampaignId],
) -> tuple[LineAttributed, ...]:
    lines, shares, done = [], [], []
    keys = {each.limit.agreement_id: each.keys for each in held}
    for agreement_id, campaign_id in campaigns.items():
        budget = budget_key(agreement_id, str(campaign_id), order.currency)
        keys[agreement_id] = [*keys.get(agreement_id, []), budget]
    gross = {str(line.order_line_id): line.gross_minor for line in order.lines}
    fixed = {line: rate.fixed_minor for line, rate in credited.decision.lines.items() if rate is not None}
    owed = {each.agreement_id: each.amount_minor for each in credited.adjustments}
    opened: set[str] = set()
    due_days = max([UNDELIVERED_DAYS, *[earned.return_window_days for earned in credited.lines]])
    for earned in credited.lines:
        line_id, link_id = CommissionLineId.new(), links[earned.touch_id]
        lines.append(
            {
                "id": line_id, "decision_id": decision_id, "order_id": order.order_id,
                "order_line_id": OrderLineId.parse(earned.order_line_id),
                "agreement_id": AgreementId.parse(earned.agreement_id),
                "agreement_version": earned.agreement_version, "advertiser_id": order.advertiser_id,
                "promoter_brand_id": BrandId.parse(earned.promoter_brand_id),
                "touch_id": TouchId.parse(earned.touch_id), "link_id": link_id,
                "rule_id": earned.rule_id,
                "rate_ppm": earned.rate_ppm, "fixed_minor": fixed[earned.order_line_id], "currency": order.currency,
                "basis_minor": earned.basis_minor,
                "commission_minor": earned.commission_minor, "refunded_basis_minor": 0, "reversed_minor": 0,
                "status": CommissionStatus.PENDING, "return_window_days": earned.return_window_days,
                "created_at": now, "counters": counters.written_keys(keys.get(earned.agreement_id, [])),
                "expected_pay_at": (order.paid_at or now) + timedelta(days=due_days),
                "sold_at": order.paid_at or now, "gross_minor": gross[earned.order_line_id],
                "new_customer": order.is_new_customer, "opens_order": earned.agreement_id not in opened,
                "adjustment_minor": owed.pop(earned.agreement_id, 0),
            }
        )  # fmt: skip
        opened.add(earned.agreement_id)
        shares += [
            {
                "commission_line_id": line_id, "position": share.position, "role": share.role,
                "payee": share.payee, "touch_id": TouchId.parse(share.touch_id),
                "link_id": None if links[share.touch_id] == link_id else links[share.touch_id],
                "earned_minor": share.amount_minor, "reversed_minor": 0,
            }
            for share in earned.shares
        ]  # fmt: skip
        done.append(
            LineAttributed(
                line_id,
                OrderLineId.parse(earned.order_line_id),
                AgreementId.parse(earned.agreement_id),
                earned.agreement_version,
                earned.basis_minor,
                earned.commission_minor,
                earned.rate_ppm,
                earned.return_window_days,
                earned.shares,
            )
        )
    if lines:
        await session.execute(_NEW_LINES, lines)
        await session.execute(_NEW_SHARES, shares)
    return tuple(done)
