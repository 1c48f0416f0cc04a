"""What may be disputed, until when, and how much can be claimed for it.

A promoter brand disputes that a line is INVALID, that it is held, that a touch of its earns nothing, or that a line
earned too little; an advertiser, that a line earned too much. Until the statement that holds the fact has been closed
for as long as the agreement says (thirty days at least); before any such statement, at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, BrandId, CommissionLineId, OrderId, TouchId
from marketplace.promotion.agreements.clauses import DisputeTerms
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.crediting import Amounts, ShareEarned, credit
from marketplace.promotion.disputes.errors import BadDispute, DisputeTooLate, NothingToDispute
from marketplace.promotion.disputes.models import DisputeSubject
from marketplace.promotion.facts import OrderFact, TouchFact, read_inputs
from marketplace.promotion.fraud.ids import HoldId
from marketplace.promotion.models import CommissionStatus, ShareRole
from supply.settlement import commission_progress as progress

_LINE = text(
    "SELECT l.*, (SELECT max(d.denied_at) FROM commission_denials d WHERE d.commission_line_id = l.id"
    "  AND d.reference LIKE 'invalid:%' AND d.restored_at IS NULL) AS denied_at,"
    " (SELECT max(d.reference) FROM commission_denials d WHERE d.commission_line_id = l.id"
    "  AND d.reference LIKE 'invalid:%' AND d.restored_at IS NULL) AS denial FROM commission_lines l WHERE l.id = :id"
)
_HOLD = text(
    "SELECT h.id, h.order_id, h.commission_line_id, h.advertiser_id, h.promoter_brand_id, h.opened_at, l.agreement_id,"
    " l.agreement_version, l.currency FROM commission_holds h JOIN commission_lines l ON l.id = h.commission_line_id"
    " WHERE h.id = :id AND h.status = 'OPEN'"
)
_DECISION = text(
    "SELECT input, amounts, advertiser_id, decided_at FROM attribution_decisions WHERE order_id = :order"
)
_TERMS = text("SELECT terms FROM agreement_versions WHERE agreement_id = :agreement AND version = :version")


@dataclass(frozen=True, slots=True)
class Disputable:
    """``about`` names the fact. ``most_minor`` bounds the claim; None where the claim is that something be undone."""

    subject: DisputeSubject
    about: str
    order_id: OrderId
    agreement_id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    currency: str
    terms: DisputeTerms
    commission_line_id: CommissionLineId | None = None
    hold_id: HoldId | None = None
    touch_id: TouchId | None = None
    most_minor: int | None = None


async def invalid_line(
    session: AsyncSession, brand_id: BrandId, line_id: CommissionLineId, now: datetime
) -> Disputable:
    """A line that was found not earned, for its promoter brand."""
    row = await _line(session, line_id, {brand_id})
    if row.status != CommissionStatus.INVALID or row.promoter_brand_id != brand_id or row.denial is None:
        raise NothingToDispute("no invalid line of yours", field="commissionLineId")
    terms = await _dispute_terms(session, row.agreement_id, row.agreement_version)
    await _in_time(session, brand_id, row.currency, row.denied_at, terms, now)
    return _of_line(DisputeSubject.INVALID, row.denial, row, terms)


async def amount_of_line(
    session: AsyncSession, brand_id: BrandId, line_id: CommissionLineId, now: datetime
) -> Disputable:
    """What a line earned: for its promoter brand too little, for the advertiser too much."""
    row = await _line(session, line_id, {brand_id})
    if row.status in (CommissionStatus.INVALID, CommissionStatus.REVERSED):
        raise NothingToDispute(f"the line is {row.status}", field="commissionLineId")
    terms = await _dispute_terms(session, row.agreement_id, row.agreement_version)
    # A line with nothing to pay is in no statement: its end counts.
    stated_at = row.payable_at or row.paid_at
    if stated_at is not None and now > stated_at + timedelta(days=terms.open_days):
        raise DisputeTooLate(stated_at + timedelta(days=terms.open_days))
    held = row.commission_minor - row.reversed_minor - row.denied_minor
    most = held if brand_id == row.advertiser_id else row.basis_minor - row.commission_minor
    return _of_line(DisputeSubject.AMOUNT, f"amount:{line_id}", row, terms, most)


async def open_hold(session: AsyncSession, brand_id: BrandId, hold_id: HoldId) -> Disputable:
    """A hold, as long as it is open, for the promoter brand whose line it is."""
    row = (await session.execute(_HOLD, {"id": hold_id})).one_or_none()
    if row is None or row.promoter_brand_id != brand_id:
        raise NothingToDispute("no open hold of yours", field="holdId")
    terms = await _dispute_terms(session, row.agreement_id, row.agreement_version)
    line_id = CommissionLineId.of(row.commission_line_id)
    return Disputable(
        DisputeSubject.HOLD, str(hold_id), OrderId.of(row.order_id), AgreementId.of(row.agreement_id),
        BrandId.of(row.advertiser_id), brand_id, row.currency, terms, line_id, hold_id,
    )  # fmt: skip


async def refused_touch(
    session: AsyncSession, brand_id: BrandId, order_id: OrderId, touch_id: TouchId, now: datetime
) -> Disputable:
    """A touch of this brand that earned nothing of an order; at most what it would have earned alone."""
    row = (await session.execute(_DECISION, {"order": order_id})).one_or_none()
    order, touch, shares, currency = (None, None, (), "") if row is None else _alone(row, str(touch_id))
    if row is None or order is None or touch is None or touch.promoter_brand_id != str(brand_id):
        raise NothingToDispute("no refused touch of yours", field="touchId")
    agreement_id = AgreementId.parse(touch.agreement_id)
    terms = await _dispute_terms(session, agreement_id, touch.agreement_version)
    await _in_time(session, brand_id, currency, row.decided_at, terms, now)
    most = sum(share.amount_minor for share in shares)
    if not most:
        raise BadDispute("it would have earned nothing of this order", field="touchId")
    return Disputable(
        DisputeSubject.TOUCH, f"{order_id}:{touch_id}", order_id, agreement_id, BrandId.of(row.advertiser_id),
        brand_id, currency, terms, touch_id=touch_id, most_minor=most,
    )  # fmt: skip


async def shares_of_touch(
    session: AsyncSession, order_id: OrderId, touch_id: TouchId
) -> tuple[ShareEarned, ...]:
    """What the payees of a touch would have earned, had it been the only one: the platform's part left out."""
    row = (await session.execute(_DECISION, {"order": order_id})).one()
    return _alone(row, str(touch_id))[2]


def _alone(
    row: Row[Any], touch_id: str
) -> tuple[OrderFact | None, TouchFact | None, tuple[ShareEarned, ...], str]:
    """The order, a touch of it that won nothing, what it would have earned alone, and the currency."""
    order, touches, agreements = read_inputs(row.input)
    amounts = Amounts.read(row.amounts)
    credited = credit(order, touches, agreements, amounts)
    touch = next((each for each in touches if each.id == touch_id), None)
    if touch is None or any(winner.touch_id == touch_id for winner in credited.decision.winners):
        return None, None, (), amounts.currency
    blameless = touch._replace(
        is_bot=False, duplicate_of=None, link_active=True, agreement_active=True, landing_view=True,
        excluded=False, promoter_keys=(), promoter_payout_hash=None, campaign_running=True,
        promoter_instrument_hashes=(), promoter_address_hashes=(),
        touch_at_us=min(touch.touch_at_us, order.created_at_us),
    )  # fmt: skip
    # Neither when it was made nor who else was there: only what its agreement pays for these goods.
    asked = order._replace(checkout_started_at_us=None, buyer_staff_of=())
    unhurried = [replace(each, window_s=10 * 365 * 86_400) for each in agreements]
    alone = credit(asked, [blameless], unhurried, replace(amounts, limits=()))
    shares = tuple(
        share for line in alone.lines for share in line.shares if share.role is not ShareRole.PLATFORM
    )
    return order, touch, shares, amounts.currency


async def _line(session: AsyncSession, line_id: CommissionLineId, parties: set[BrandId]) -> Row[Any]:
    row = (await session.execute(_LINE, {"id": line_id})).one_or_none()
    if row is None or parties.isdisjoint((BrandId.of(row.advertiser_id), BrandId.of(row.promoter_brand_id))):
        raise NothingToDispute("no such commission line", field="commissionLineId")
    return row


async def _dispute_terms(session: AsyncSession, agreement_id: Any, version: int) -> DisputeTerms:
    found = await session.scalar(_TERMS, {"agreement": agreement_id, "version": version})
    return DisputeTerms() if found is None else Terms.from_json(found).disputes


async def _in_time(
    session: AsyncSession,
    payee: BrandId,
    currency: str,
    fact_at: datetime,
    terms: DisputeTerms,
    now: datetime,
) -> None:
    closed_at = await progress.statement_closed(session, str(payee), currency, fact_at)
    if closed_at is not None and now > closed_at + timedelta(days=terms.open_days):
        raise DisputeTooLate(closed_at + timedelta(days=terms.open_days))


def _of_line(
    subject: DisputeSubject, about: str, row: Row[Any], terms: DisputeTerms, most: int | None = None
) -> Disputable:
    return Disputable(
        subject, about, OrderId.of(row.order_id), AgreementId.of(row.agreement_id), BrandId.of(row.advertiser_id),
        BrandId.of(row.promoter_brand_id), row.currency, terms, CommissionLineId.of(row.id), most_minor=most,
    )  # fmt: skip
