"""What an order would earn under terms as they stand: the engine of the handlers on an order that is not there.

Nothing is stored and nothing reserved. The touch is a click of this moment that won; caps, tiers and, for the
advertiser, the campaign's budget are as they are now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.canonical import to_micros
from core.clock import Clock
from core.ids import AgreementId, BrandId, OrderId, OrderLineId, TouchId, VariantId
from core.money import Money
from marketplace.catalog import queries as catalog
from marketplace.insights.errors import BadPreview, NothingToPreview
from marketplace.orders import queries as orders
from marketplace.orders.capture import for_attribution
from marketplace.promotion import queries as promotion
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.limits import BudgetLeft, CapScope, Limit
from marketplace.promotion.agreements.terms import Rule, Terms, category_path, terms_in_force
from marketplace.promotion.attribution.crediting import (
    Amounts,
    Credit,
    LineMoney,
    ShareEarned,
    SplitRule,
    credit,
)
from marketplace.promotion.commission.rules import TierMode
from marketplace.promotion.decisions.attribute import LineForAttribution
from marketplace.promotion.facts import LineFact, OrderFact, ScopeKind, TouchFact
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.models import ShareRole
from marketplace.promotion.offers import queries as offers

MOST_LINES, MOST_PIECES = 100, 9_999
BUDGET = "CAMPAIGN"
"""The scope under which a campaign's budget is shown beside the caps."""
_DEPTH = {ScopeKind.SKU: 0, ScopeKind.PRODUCT: 1, ScopeKind.CATEGORY: 2, ScopeKind.CAMPAIGN: 3}
_BUDGET = text(
    "SELECT limit_minor, limit_minor - reserved_minor - spent_minor AS left_minor, mode FROM campaign_budgets b"
    " JOIN campaigns c ON c.id = b.campaign_id WHERE b.campaign_id = :campaign AND c.currency = :currency"
)


class RuleFate(StrEnum):
    CHOSEN = "CHOSEN"
    WIDER_SCOPE = "WIDER_SCOPE"
    """SKU before product before the deepest category before everything."""
    LOWER_PRIORITY = "LOWER_PRIORITY"


@dataclass(frozen=True, slots=True)
class BasketLine:
    """``unit_price`` by default as the catalogue has it in the basket's currency; ``discount`` off the whole line."""

    variant_id: VariantId
    quantity: int
    unit_price: Money | None = None
    discount: Money | None = None


@dataclass(frozen=True, slots=True)
class Basket:
    """``country`` decides the tax inside the prices."""

    lines: Sequence[BasketLine]
    currency: str
    country: str


@dataclass(frozen=True, slots=True)
class Under:
    """Whose terms: of an agreement, as in force now, or of an offer, as an agreement that begins now (``is_new``)."""

    name: str
    version: int
    terms: Terms
    advertiser_id: BrandId
    agreement_id: AgreementId
    promoter_brand_id: BrandId
    campaign_id: CampaignId | None
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class ConsideredRule:
    id: str
    rule: Rule
    fate: RuleFate


@dataclass(frozen=True, slots=True)
class PreviewedShare:
    role: ShareRole
    amount: Money


@dataclass(frozen=True, slots=True)
class PreviewedLine:
    """``by_rule`` is the commission at the rule's rate; ``commission`` what tiers, caps and budget leave of it."""

    sku: str
    quantity: int
    gross: Money
    discount: Money
    basis: Money
    rate_ppm: int
    fixed: Money | None
    rules: tuple[ConsideredRule, ...]
    """Those that fit, the one that holds first."""
    by_rule: Money
    commission: Money
    shares: tuple[PreviewedShare, ...]


@dataclass(frozen=True, slots=True)
class PreviewedCap:
    """``left`` before this order."""

    scope: str
    limit: Money
    left: Money
    mode: str


@dataclass(frozen=True, slots=True)
class PreviewedTiers:
    """``prior_basis`` is what was sold in the period before this order."""

    mode: TierMode
    prior_basis: Money


@dataclass(frozen=True, slots=True)
class Preview:
    name: str
    version: int
    currency: str
    lines: tuple[PreviewedLine, ...]
    by_rule: Money
    commission: Money
    adjustment: Money
    """R5 RETROACTIVE: owed at once for the period's earlier orders."""
    shares: tuple[PreviewedShare, ...]
    caps: tuple[PreviewedCap, ...]
    tiers: PreviewedTiers | None
    return_window_days: int


async def under_agreement(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, at: datetime
) -> Under:
    """Raises ``AgreementNotFound`` for one between others, ``NothingToPreview`` before a version is in force."""
    agreement = await promotion.agreement(session, actor, agreement_id)
    version = await promotion.version_in_force(session, agreement_id, at)
    if version is None:
        raise NothingToPreview("no version of this agreement is in force", field="agreementId")
    return Under(
        str(agreement_id), version.version, version.terms, agreement.advertiser_id, agreement_id,
        agreement.promoter_brand_id, agreement.origin.campaign_id,
    )  # fmt: skip


async def under_offer(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, version: int | None
) -> Under:
    """A new agreement under a published offer. Raises ``OfferNotFound``."""
    offer = await offers.offer(session, actor, offer_id)
    published = await offers.offer_version(session, actor, offer_id, version)
    return Under(
        str(offer_id), published.version, published.content.terms, offer.advertiser_id,
        AgreementId.of(offer_id), BrandId.of(offer_id), offer.campaign_id, is_new=True,
    )  # fmt: skip


async def lines_of_order(
    session: AsyncSession, actor: Actor, order_id: OrderId, under: Under
) -> tuple[str, list[LineForAttribution]]:
    """Currency and lines. Raises ``OrderNotFound``, ``BadPreview`` for another merchant's."""
    order = await orders.order(session, actor, order_id)
    if order.merchant_id != under.advertiser_id:
        raise BadPreview("the order is of another merchant", field="orderId")
    return order.total.currency, for_attribution((await orders.lines_of(session, [order_id]))[order_id])


async def lines_of_basket(
    session: AsyncSession, basket: Basket, under: Under
) -> tuple[str, list[LineForAttribution]]:
    """Currency and lines, priced by the catalogue where no price is given. Raises ``BadPreview``. Two statements."""
    if not 1 <= len(basket.lines) <= MOST_LINES:
        raise BadPreview(f"1 to {MOST_LINES} lines", field="lines")
    variants = await catalog.variants_for_sale(
        session, [line.variant_id for line in basket.lines], currency=basket.currency
    )
    taxes = await catalog.tax_rate(session, basket.country, {v.category for v in variants.values()})
    lines = []
    for line in basket.lines:
        variant = variants.get(line.variant_id)
        if variant is None or variant.brand_id != under.advertiser_id:
            raise BadPreview(f"{line.variant_id} is no variant of the advertiser", field="lines")
        price = line.unit_price or variant.price
        if price is None or not 1 <= line.quantity <= MOST_PIECES:
            raise BadPreview(
                f"{variant.sku}: a price in {basket.currency}, and 1 to {MOST_PIECES} pieces", field="lines"
            )
        off = line.discount or Money(0, basket.currency)
        if {price.currency, off.currency} != {basket.currency} or price.amount_minor < 0:
            raise BadPreview(f"{variant.sku}: amounts are in {basket.currency}", field="lines")
        gross = price * line.quantity
        if not 0 <= off.amount_minor <= gross.amount_minor:
            raise BadPreview(f"{variant.sku}: a discount from 0 to the line's price", field="lines")
        tax = taxes[variant.category]
        lines.append(
            LineForAttribution(
                OrderLineId.new(), variant.product_id, variant.sku, variant.category, line.quantity,
                gross.amount_minor, off.amount_minor, tax.rate_ppm if tax.included else 0,
            )
        )  # fmt: skip
    return basket.currency, lines


async def preview(
    session: AsyncSession,
    under: Under,
    currency: str,
    lines: Sequence[LineForAttribution],
    *,
    new_customer: bool,
    with_person: bool,
    clock: Clock,
) -> Preview:
    """``with_person``: sold through a person's link, so that the individual's part is not the brand's.

    Two statements at most, for caps and budget.
    """
    now = clock.now()
    limit = await _limit(session, under, currency, now)
    by_rule = _credited(under, currency, lines, (), now, new_customer=new_customer, with_person=with_person)
    limits = () if limit is None else (limit,)
    earned = _credited(
        under, currency, lines, limits, now, new_customer=new_customer, with_person=with_person
    )
    return _shown(under, currency, lines, by_rule, earned, limit)


async def _limit(session: AsyncSession, under: Under, currency: str, now: datetime) -> Limit | None:
    wanted = counters.Wanted(
        str(under.agreement_id), under.version, under.terms, str(under.promoter_brand_id)
    )
    if under.is_new:
        held = counters.held_at(wanted, {}, currency=currency, paid_at=now)
    else:
        held = await counters.standing(session, wanted, currency=currency, paid_at=now)
    limit = None if held is None else held.limit
    if under.campaign_id is None:
        return limit
    budget = (await session.execute(_BUDGET, {"campaign": under.campaign_id, "currency": currency})).first()
    if budget is None:
        return limit
    left = BudgetLeft(str(under.campaign_id), budget.limit_minor, budget.left_minor, budget.mode)
    return replace(limit or Limit(str(under.agreement_id), under.version), budget=left)


def _credited(
    under: Under,
    currency: str,
    lines: Sequence[LineForAttribution],
    limits: tuple[Limit, ...],
    now: datetime,
    *,
    new_customer: bool,
    with_person: bool,
) -> Credit:
    order = OrderFact(
        id="preview",
        advertiser_id=str(under.advertiser_id),
        created_at_us=to_micros(now),
        lines=tuple(
            LineFact(str(line.order_line_id), line.sku, str(line.product_id), category_path(line.category))
            for line in lines
        ),
        is_new_customer=new_customer,
    )
    agreement, person = str(under.agreement_id), "person" if with_person else None
    touch = TouchFact(
        str(TouchId.new()),
        agreement,
        under.version,
        str(under.promoter_brand_id),
        "placement",
        to_micros(now),
        person,
    )
    terms = terms_in_force(
        under.agreement_id,
        under.version,
        advertiser_id=under.advertiser_id,
        promoter_brand_id=under.promoter_brand_id,
        in_force_from=now,
        terms=under.terms,
        currency=currency,
    )
    amounts = Amounts(
        currency,
        tuple(
            LineMoney(str(x.order_line_id), x.quantity, x.gross_minor, x.discount_minor, x.tax_ppm)
            for x in lines
        ),
        (),
        (split_of(agreement, under.version, under.terms),),
        limits,
    )
    return credit(order, [touch], [terms], amounts)


def split_of(agreement_id: str, version: int, terms: Terms) -> SplitRule:
    return SplitRule(
        agreement_id,
        version,
        terms.fee_ppm,
        terms.individual_ppm,
        terms.return_window_days,
        terms.fixed_cap_ppm,
    )


def considered(line: LineForAttribution, terms: Terms) -> tuple[ConsideredRule, ...]:
    """The rules that fit a line, in the order of precedence, and why each but the first gives way."""
    path = category_path(line.category)
    fitting = sorted(
        (
            (
                _DEPTH[rule.scope],
                -len(rule.scope_id) if rule.scope is ScopeKind.CATEGORY else 0,
                -rule.priority,
            ),
            f"r{index:03d}",
            rule,
        )
        for index, rule in enumerate(terms.rules)
        if _fits(rule, line, path)
    )
    found = []
    for place, (merit, id, rule) in enumerate(fitting):
        same_scope = merit[:2] == fitting[0][0][:2]
        lost = RuleFate.LOWER_PRIORITY if same_scope else RuleFate.WIDER_SCOPE
        found.append(ConsideredRule(id, rule, RuleFate.CHOSEN if place == 0 else lost))
    return tuple(found)


def _fits(rule: Rule, line: LineForAttribution, path: Sequence[str]) -> bool:
    if rule.scope is ScopeKind.SKU:
        return rule.scope_id == line.sku
    if rule.scope is ScopeKind.PRODUCT:
        return rule.scope_id == str(line.product_id)
    if rule.scope is ScopeKind.CATEGORY:
        return rule.scope_id in path
    return True


def _shown(
    under: Under,
    currency: str,
    lines: Sequence[LineForAttribution],
    by_rule: Credit,
    earned: Credit,
    limit: Limit | None,
) -> Preview:
    at_rule = {line.order_line_id: line for line in by_rule.lines}
    after = {line.order_line_id: line for line in earned.lines}
    shown = []
    for line, rate in zip(lines, by_rule.decision.lines.values(), strict=True):
        rules = considered(line, under.terms)
        first, final = at_rule.get(str(line.order_line_id)), after.get(str(line.order_line_id))
        shown.append(
            PreviewedLine(
                sku=line.sku,
                quantity=line.quantity,
                gross=Money(line.gross_minor, currency),
                discount=Money(line.discount_minor, currency),
                basis=Money(first.basis_minor if first else 0, currency),
                rate_ppm=rate.rate_ppm if rate else 0,
                fixed=Money(rate.fixed_minor, currency) if rate and rate.fixed_minor is not None else None,
                rules=rules,
                by_rule=Money(first.commission_minor if first else 0, currency),
                commission=Money(final.commission_minor if final else 0, currency),
                shares=_shares([final.shares] if final else [], currency),
            )
        )
    owed = [adjustment.shares for adjustment in earned.adjustments]
    adjustment = sum(each.amount_minor for each in earned.adjustments)
    total = sum(line.commission_minor for line in earned.lines)
    return Preview(
        name=under.name,
        version=under.version,
        currency=currency,
        lines=tuple(shown),
        by_rule=Money(sum(line.commission_minor for line in by_rule.lines), currency),
        commission=Money(total, currency),
        adjustment=Money(adjustment, currency),
        shares=_shares([*(line.shares for line in earned.lines), *owed], currency),
        caps=_caps(under, limit, currency),
        tiers=_tiers(limit, currency),
        return_window_days=under.terms.return_window_days,
    )


def _shares(parts: Iterable[Sequence[ShareEarned]], currency: str) -> tuple[PreviewedShare, ...]:
    by_role = dict.fromkeys(ShareRole, 0)
    for shares in parts:
        for share in shares:
            by_role[share.role] += share.amount_minor
    return tuple(PreviewedShare(role, Money(amount, currency)) for role, amount in by_role.items())


def _caps(under: Under, limit: Limit | None, currency: str) -> tuple[PreviewedCap, ...]:
    if limit is None:
        return ()
    # In the order they apply, as ``limit.caps`` is.
    held = [cap for cap in under.terms.caps if cap.currency == currency]
    scopes = [scope for scope in CapScope for cap in held if cap.scope is scope]
    caps = [
        PreviewedCap(scope, Money(most, currency), Money(max(left, 0), currency), mode)
        for scope, (most, left, mode, _) in zip(scopes, limit.caps, strict=True)
    ]
    if (budget := limit.budget) is not None:
        most, left = Money(budget.limit_minor, currency), Money(max(budget.remaining_minor, 0), currency)
        caps.append(PreviewedCap(BUDGET, most, left, budget.mode))
    return tuple(caps)


def _tiers(limit: Limit | None, currency: str) -> PreviewedTiers | None:
    if limit is None or not limit.tiers:
        return None
    return PreviewedTiers(TierMode(limit.tier_mode), Money(limit.prior_basis_minor, currency))
