"""What an order's touches were at their own moment: read in one statement, judged elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import to_micros
from core.ids import AgreementId, BrandId, ContactId, LinkId, PlacementId, PromoterId, TouchId
from marketplace.promotion.agreements.terms import LONGEST_WINDOW_S, Terms, terms_in_force
from marketplace.promotion.attribution.crediting import SplitRule
from marketplace.promotion.facts import AgreementTerms, TouchChannel, TouchFact, TouchKind, keys_of
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.touches.touch_token import SignedTouch

MOST_TOUCHES = 200
"""Of one order; older ones beyond that cannot be the last, and a flood cannot slow a checkout down."""

# A signed touch whose row is still in the edge's spool is judged by what its token proves. A repeated click
# brings the one it repeats, which stays the one that counts. Only touches for this advertiser are read: a
# rival merchant's links are not its business.
_FACTS = text("""
WITH signed AS (
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:links AS uuid[]), CAST(:ats AS timestamptz[]))
        AS s(id, link_id, at)
), found AS (
    SELECT s.id, s.link_id, s.at, coalesce(t.kind, 'click') AS kind, 1 AS rank,
        coalesce(t.is_bot, false) AS is_bot, t.duplicate_of
    FROM signed s LEFT JOIN touches t ON t.id = s.id
    UNION ALL
    SELECT o.id, o.link_id, o.at, o.kind, 1, o.is_bot, o.duplicate_of
    FROM signed s JOIN touches t ON t.id = s.id JOIN touches o ON o.id = t.duplicate_of
    UNION ALL
    SELECT t.id, t.link_id, t.at, t.kind, 2, t.is_bot, t.duplicate_of FROM touches t
    WHERE t.contact_id = ANY(:contacts) AND t.at BETWEEN :since AND :until
    UNION ALL
    SELECT t.id, t.link_id, t.at, t.kind, 2, t.is_bot, t.duplicate_of FROM touches t
    WHERE t.contact_id = ANY(:leads) AND t.kind = 'lead' AND t.at BETWEEN :since AND :until
    UNION ALL
    SELECT t.id, t.link_id, t.at, t.kind, 3, t.is_bot, t.duplicate_of FROM touches t
    WHERE t.session_key = ANY(:sessions) AND t.at BETWEEN :since AND :until
    UNION ALL
    SELECT t.id, t.link_id, t.at, t.kind, 4, t.is_bot, t.duplicate_of FROM touches t WHERE t.id = ANY(:entered)
), best AS (
    SELECT DISTINCT ON (id) * FROM found ORDER BY id, rank
)
SELECT b.id, b.link_id, b.at, b.kind, b.rank, b.is_bot, b.duplicate_of,
    l.agreement_id, l.promoter_brand_id, l.placement_id, l.promoter_id,
    (l.disabled_at IS NULL OR b.at < l.disabled_at) AND (l.expires_at IS NULL OR b.at < l.expires_at)
        AS link_active,
    v.version, v.terms, v.in_force_from,
    (SELECT s.status FROM agreement_status_log s
        WHERE s.agreement_id = l.agreement_id AND s.changed_at <= b.at
        ORDER BY s.position DESC LIMIT 1) AS agreement_status,
    coalesce(b.at < a.ends_at, true) AS before_end,
    k.id IS NULL OR b.at >= k.starts_at AND coalesce(b.at < k.ends_at, true) AND (SELECT s.status
        FROM campaign_status_log s WHERE s.campaign_id = k.id AND s.changed_at <= b.at
        ORDER BY s.position DESC LIMIT 1) IS NOT DISTINCT FROM 'ACTIVE' AS campaign_running,
    (SELECT g.campaign_id FROM campaign_budgets g WHERE g.campaign_id = k.id AND k.currency = :currency) AS budget,
    p.person_keys, p.payout_hash, p.instrument_hashes, p.address_hashes,
    EXISTS (SELECT FROM excluded_touches x WHERE x.touch_id = b.id AND x.lifted_at IS NULL) AS excluded,
    EXISTS (SELECT FROM fraud_signals f WHERE f.agreement_id = l.agreement_id
        AND f.promoter = coalesce(l.promoter_id, l.promoter_brand_id) AND f.window_until >= :until
        AND f.status <> 'DISMISSED') AS watched,
    coalesce(c.exclusive, false) AS coupon_exclusive, coalesce(c.leaked_since <= b.at, false) AS coupon_leaked,
    ARRAY(SELECT DISTINCT staff.brand_id FROM promoters staff
        WHERE staff.kind = 'staff' AND staff.person_keys && CAST(:buyer AS varchar[])) AS buyer_staff_of,
    p.payout_hash IS NOT NULL AND EXISTS (SELECT FROM promoters own WHERE own.payout_hash = p.payout_hash
        AND own.person_keys && CAST(:buyer AS varchar[])) AS paid_to_buyer
FROM best b JOIN tracked_links l ON l.id = b.link_id
LEFT JOIN agreements a ON a.id = l.agreement_id
LEFT JOIN campaigns k ON k.id = a.campaign_id
LEFT JOIN promoters p ON p.id = l.promoter_id
LEFT JOIN coupon_entries e ON e.touch_id = b.id
LEFT JOIN coupons c ON c.id = e.coupon_id
LEFT JOIN LATERAL (SELECT version, terms, in_force_from FROM agreement_versions v
    WHERE v.agreement_id = l.agreement_id AND v.in_force_from <= b.at ORDER BY version DESC LIMIT 1) v ON true
WHERE l.advertiser_id = :advertiser AND l.agreement_id IS NOT NULL
ORDER BY b.at DESC, b.id LIMIT :most
""")
_CHANNEL = {1: TouchChannel.SIGNED, 2: TouchChannel.PERSON, 3: TouchChannel.COOKIE, 4: TouchChannel.CODE}


@dataclass(frozen=True, slots=True)
class TouchesOfOrder:
    touches: tuple[TouchFact, ...] = ()
    agreements: tuple[AgreementTerms, ...] = ()
    splits: tuple[SplitRule, ...] = ()
    buyer_staff_of: frozenset[str] = frozenset()
    buyer_payout_hash: str | None = None
    """The account of one of these touches' promoters that the buyer is paid to as well, promoting for whomever."""
    links: Mapping[str, LinkId] = field(default_factory=dict)
    """By touch id."""
    limited: Mapping[tuple[str, int], Terms] = field(default_factory=dict)
    """By agreement and version, those with caps or tiers."""
    budgets: Mapping[str, CampaignId] = field(default_factory=dict)
    """By agreement, its campaign where that has a budget in the order's currency."""
    watched: frozenset[str] = frozenset()
    """Touches of promoters whose orders have a longer return window for now."""


async def touch_facts_for(
    session: AsyncSession,
    *,
    advertiser_id: BrandId,
    currency: str,
    signed: Sequence[SignedTouch],
    until: datetime,
    contact_ids: Sequence[ContactId] = (),
    lead_contact_ids: Sequence[ContactId] = (),
    session_keys: Sequence[bytes] = (),
    entered: Sequence[TouchId] = (),
    buyer_keys: Sequence[str] = (),
) -> TouchesOfOrder:
    """Every touch for this advertiser that the evidence names, with its agreement version. One statement.

    ``entered`` are the touches of promoters' codes that the order was placed with, ``lead_contact_ids`` contacts whose
    leads count and nothing else.
    Needs a SYSTEM session: the promoters' keys are of other brands.
    """
    if not (signed or contact_ids or lead_contact_ids or session_keys or entered):
        return TouchesOfOrder()
    unique = {touch.touch_id: touch for touch in signed}
    rows = await session.execute(
        _FACTS,
        {
            "ids": list(unique), "links": [touch.link_id for touch in unique.values()],
            "ats": [touch.at for touch in unique.values()], "contacts": list(contact_ids),
            "leads": list(lead_contact_ids),
            "sessions": list(session_keys), "since": until - timedelta(seconds=LONGEST_WINDOW_S),
            "until": until, "entered": list(entered), "buyer": list(buyer_keys), "currency": currency,
            "advertiser": advertiser_id, "most": MOST_TOUCHES,
        },
    )  # fmt: skip
    touches: list[TouchFact] = []
    links: dict[str, LinkId] = {}
    agreements: dict[tuple[str, int], AgreementTerms] = {}
    splits: dict[tuple[str, int], SplitRule] = {}
    limited: dict[tuple[str, int], Terms] = {}
    budgets: dict[str, CampaignId] = {}
    staff_of: frozenset[str] = frozenset()
    payout_hash: str | None = None
    watched = set()
    for row in rows:
        fact = _touch(row)
        touches.append(fact)
        if row.watched:
            watched.add(fact.id)
        links[fact.id] = LinkId.of(row.link_id)
        if row.paid_to_buyer:
            payout_hash = row.payout_hash
        staff_of = frozenset(str(BrandId.of(brand)) for brand in row.buyer_staff_of)
        key = (fact.agreement_id, fact.agreement_version)
        if row.version is not None and key not in agreements:
            terms = Terms.from_json(row.terms)
            agreements[key] = terms_in_force(
                AgreementId.of(row.agreement_id),
                row.version,
                advertiser_id=advertiser_id,
                promoter_brand_id=BrandId.of(row.promoter_brand_id),
                in_force_from=row.in_force_from,
                terms=terms,
                currency=currency,
            )
            splits[key] = SplitRule(
                *key,
                terms.fee_ppm,
                terms.individual_ppm,
                terms.return_window_days,
                terms.fixed_cap_ppm,
            )
            if terms.caps or terms.tiers:
                limited[key] = terms
        if row.budget is not None:
            budgets[fact.agreement_id] = CampaignId.of(row.budget)
    return TouchesOfOrder(
        tuple(touches),
        tuple(agreements.values()),
        tuple(splits.values()),
        staff_of,
        payout_hash,
        links,
        limited,
        budgets,
        frozenset(watched),
    )


def _touch(row: Any) -> TouchFact:
    channel = _CHANNEL[row.rank]
    return TouchFact(
        id=str(TouchId.of(row.id)),
        agreement_id=str(AgreementId.of(row.agreement_id)),
        agreement_version=row.version or 0,
        promoter_brand_id=str(BrandId.of(row.promoter_brand_id)),
        placement_id=str(PlacementId.of(row.placement_id)),
        touch_at_us=to_micros(row.at),
        promoter_id=None if row.promoter_id is None else str(PromoterId.of(row.promoter_id)),
        kind=TouchKind(row.kind),
        channel=channel,
        is_bot=row.is_bot,
        duplicate_of=None if row.duplicate_of is None else str(TouchId.of(row.duplicate_of)),
        link_active=row.link_active,
        agreement_active=row.agreement_status == "ACTIVE" and row.before_end,
        campaign_running=row.campaign_running,
        # Whoever carries the signed touch has loaded the page it led to; a cookie alone proves no view.
        landing_view=channel is TouchChannel.SIGNED,
        coupon_exclusive=row.coupon_exclusive,
        coupon_leaked=row.coupon_leaked,
        promoter_keys=keys_of(row.person_keys or ()),
        promoter_payout_hash=row.payout_hash,
        promoter_instrument_hashes=keys_of(row.instrument_hashes or ()),
        promoter_address_hashes=keys_of(row.address_hashes or ()),
        excluded=row.excluded,
    )
