"""What one credited order shows by itself: looked at as soon as it is credited, once, by a handler of the event.

Keeps what the sweeps look at of it (``credited_sales``). Its own rules: SELF_REFERRAL (decided in attribution, told
here), TIME_TO_ORDER_SHORT, BANNED_SOURCE, DEVICE_REUSE against the promoter's other sales of the week, and CLICK_FLOOD
around the click that won. One that still lies in the edge's spool is looked at when it comes home (late_clicks.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import AgreementId, BrandId, LinkId, OrderId, PlacementId, PromoterId, TouchId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from marketplace.promotion.agreements.clauses import SourceBreach, SourceTerms
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.decision import Award, Decision, RejectReason, Winner, decide
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.facts import AgreementTerms, OrderFact, TouchFact, TouchKind, read_inputs
from marketplace.promotion.fraud import rules
from marketplace.promotion.fraud.models import CreditedSale
from marketplace.promotion.fraud.recording import Found, Parties, record
from marketplace.promotion.fraud.rules import Click, NewSale
from marketplace.promotion.fraud.signals import Action, Signal

SELF_PROMOTION: Final = frozenset(
    {
        RejectReason.SELF_PURCHASE, RejectReason.STAFF_PURCHASE, RejectReason.SHARED_PAYOUT,
        RejectReason.SHARED_INSTRUMENT, RejectReason.SHARED_ADDRESS,
    }
)  # fmt: skip
WEEK = timedelta(days=7)
MINUTE = timedelta(seconds=60)
_MOST_SALES = 200
_MOST_CLICKS = 1_000
_CLICKED = frozenset({TouchKind.CLICK, TouchKind.SCAN})
_ON_BREACH = {SourceBreach.HOLD: Action.HOLD, SourceBreach.INVALID: Action.INVALIDATE}
_SALES = table_of(CreditedSale)

# Where a promoter's own orders go and what they are paid with is what somebody else's must not share (cps.md §3.6).
_LEARN = (
    "{known} = CASE WHEN CAST(:{digest} AS varchar) IS NULL OR CAST(:{digest} AS varchar) = ANY({known})"
    " OR cardinality({known}) >= :most THEN {known} ELSE {known} || CAST(:{digest} AS varchar) END"
)
_KNOWN_BY = text(
    f"UPDATE promoters SET {_LEARN.format(known='instrument_hashes', digest='instrument')},"
    f" {_LEARN.format(known='address_hashes', digest='address')} WHERE person_keys && CAST(:buyer AS varchar[])"
)
_MOST_KNOWN = 20
_DECIDED = text(
    "SELECT input FROM attribution_decisions d WHERE order_id = :order"
    " AND NOT EXISTS (SELECT FROM credited_sales s WHERE s.order_id = d.order_id)"
)
_TERMS = text(
    "SELECT v.agreement_id, v.version, v.terms FROM agreement_versions v"
    " JOIN unnest(CAST(:agreements AS uuid[]), CAST(:versions AS int[])) AS n (id, version)"
    " ON v.agreement_id = n.id AND v.version = n.version"
)
# How crowded the minutes around a click were: more than enough of it is not counted.
_AROUND = (
    "{at} - CAST(:minute AS interval) < {n}at AND {n}at < {at} + CAST(:minute AS interval) AND NOT {n}is_bot"
)
_CLICKS = text(
    "SELECT t.id, t.link_id, t.at, t.session_key, t.referrer_host, t.ad_parameters, t.ip_prefix_hash,"
    " t.user_agent_hash, (SELECT count(*) FROM (SELECT FROM touches n WHERE n.link_id = t.link_id"
    "  AND n.ip_prefix_hash = t.ip_prefix_hash AND n.user_agent_hash = t.user_agent_hash"
    f"  AND {_AROUND.format(at='t.at', n='n.')} LIMIT :most) x) AS crowd FROM touches t WHERE t.id = ANY(:ids)"
)
_CROWD = text(
    "SELECT id, at FROM touches WHERE link_id = :link AND ip_prefix_hash = :network AND user_agent_hash = :agent"
    f" AND {_AROUND.format(at='CAST(:at AS timestamptz)', n='')} ORDER BY at, id LIMIT :most"
)
# Three orders on one device must not be judged by three handlers that see none of the others.
_ONE_JUDGE = text("SELECT pg_advisory_xact_lock(hashtextextended(:promoter, 22))")
_MARKED = (
    "(SELECT '{kind}' AS kind, order_id, buyer, paid_at FROM credited_sales WHERE promoter = :promoter"
    " AND agreement_id = :agreement AND at_new_rate AND {kind} = :{kind}"
    " AND paid_at BETWEEN CAST(:since AS timestamptz) AND CAST(:until AS timestamptz)"
    " ORDER BY paid_at DESC LIMIT :most)"
)
_ALIKE = text(" UNION ALL ".join(_MARKED.format(kind=kind) for kind in ("device", "instrument", "address")))


@dataclass(frozen=True, slots=True)
class Sale:
    """One award of the order, by its last winner: whose sale it is. ``click`` is that touch's row, when it is there."""

    award: Award
    winner: Winner
    touch: TouchFact
    click: Any
    parties: Parties
    at_new_rate: bool
    window_s: int


async def on_order_credited(session: AsyncSession, event: OrderCredited, *, clock: Clock) -> None:
    """Five statements for an order that shows nothing, two more where it earns a rate for new customers, two where
    nobody had touched the buyer."""
    row = (await session.execute(_DECIDED, {"order": event.order_id})).first()
    if row is None:
        return
    order, touches, agreements = read_inputs(row.input)
    await _know_promoter(session, order)
    if not touches:
        return
    decision = decide(order, touches, agreements)
    by_id = {touch.id: touch for touch in touches}
    found = list(_self_referrals(order, decision, by_id, BrandId.parse(order.advertiser_id)))
    if decision.awards:
        sales = await sales_of(session, order, decision, by_id, agreements)
        await insert_rows(session, _SALES, _rows(order, sales))
        found += [each for sale in sales for each in _too_fast(order, sale)]
        found += await shown_by_clicks(session, order, sales)
    await record(session, found, clock=clock)


async def _know_promoter(session: AsyncSession, order: OrderFact) -> None:
    """Of a buyer who promotes for somebody: by which digests their household is known."""
    if order.buyer_keys and (order.payment_instrument_hash or order.address_hash):
        known = {
            "buyer": sorted(order.buyer_keys), "instrument": order.payment_instrument_hash,
            "address": order.address_hash, "most": _MOST_KNOWN,
        }  # fmt: skip
        await session.execute(_KNOWN_BY, known)


async def sales_of(
    session: AsyncSession,
    order: OrderFact,
    decision: Decision,
    by_id: Mapping[str, TouchFact],
    agreements: Sequence[AgreementTerms],
) -> list[Sale]:
    """The awards with the rows of their clicks as they are now. One statement."""
    clicks = await _clicks(session, [winner.touch_id for winner in decision.winners])
    return [_sale(order, award, by_id, clicks, agreements) for award in decision.awards]


async def shown_by_clicks(session: AsyncSession, order: OrderFact, sales: Sequence[Sale]) -> list[Found]:
    """What the rows of the clicks show: where they came from, how crowded it was, and whose browser it was."""
    sources = await _sources(session, [sale.award for sale in sales])
    found: list[Found] = []
    for sale in sales:
        found += _forbidden(order, sale, sources[sale.award.agreement_id, sale.award.agreement_version])
        found += await _flooded(session, sale)
        found += await _reused(session, order, sale)
    return found


async def _clicks(session: AsyncSession, touch_ids: Sequence[str]) -> dict[str, Any]:
    """The rows of these touches; one that still lies in the edge's spool has none."""
    asked = {
        "ids": [TouchId.parse(each) for each in touch_ids], "minute": MINUTE, "most": _MOST_CLICKS,
    }  # fmt: skip
    return {str(TouchId.of(row.id)): row for row in await session.execute(_CLICKS, asked)}


async def _sources(session: AsyncSession, awards: Sequence[Award]) -> dict[tuple[str, int], SourceTerms]:
    """What the versions that earn say of where clicks may come from."""
    asked = {
        "agreements": [AgreementId.parse(award.agreement_id) for award in awards],
        "versions": [award.agreement_version for award in awards],
    }
    return {
        (str(AgreementId.of(row.agreement_id)), row.version): Terms.from_json(row.terms).sources
        for row in await session.execute(_TERMS, asked)
    }


def _sale(
    order: OrderFact,
    award: Award,
    by_id: Mapping[str, TouchFact],
    clicks: Mapping[str, Any],
    agreements: Sequence[AgreementTerms],
) -> Sale:
    winner = award.winners[-1]
    terms = next(
        each
        for each in agreements
        if (each.agreement_id, each.version) == (award.agreement_id, award.agreement_version)
    )
    dearer = any(rule.rate_new_ppm not in (None, rule.rate_ppm) for rule in terms.rules)
    touch = by_id[winner.touch_id]
    return Sale(
        award, winner, touch, clicks.get(winner.touch_id), parties_of(touch, BrandId.parse(order.advertiser_id)),
        order.is_new_customer and dearer, terms.window_s,
    )  # fmt: skip


def parties_of(touch: TouchFact, advertiser_id: BrandId) -> Parties:
    brand = BrandId.parse(touch.promoter_brand_id)
    promoter: UUID = brand if touch.promoter_id is None else PromoterId.parse(touch.promoter_id)
    return Parties(advertiser_id, brand, AgreementId.parse(touch.agreement_id), promoter)


def _rows(order: OrderFact, sales: Sequence[Sale]) -> list[dict[str, Any]]:
    """One per agreement: of several awards of one, the first stands for the order."""
    rows: dict[AgreementId, dict[str, Any]] = {}
    for sale in sales:
        parties = sale.parties
        row = {
            "order_id": OrderId.parse(order.id), "agreement_id": parties.agreement_id,
            "agreement_version": sale.award.agreement_version, "advertiser_id": parties.advertiser_id,
            "promoter_brand_id": parties.promoter_brand_id, "promoter": parties.promoter,
            "placement_id": PlacementId.parse(sale.touch.placement_id),
            "touch_id": TouchId.parse(sale.touch.id), "touch_at": sale.touch.touch_at,
            "ordered_at": order.created_at, "paid_at": _paid_at(order), "window_s": sale.window_s,
            "at_new_rate": sale.at_new_rate, "buyer": _buyer(order), "device": device_of(sale),
            "instrument": order.payment_instrument_hash, "address": order.address_hash,
            "click_awaited": sale.click is None and sale.touch.kind in _CLICKED,
        }  # fmt: skip
        rows.setdefault(parties.agreement_id, row)
    return list(rows.values())


def _paid_at(order: OrderFact) -> datetime:
    return order.paid_at or order.created_at


def _buyer(order: OrderFact) -> str:
    return min(order.buyer_keys, default=order.id)


def device_of(sale: Sale) -> bytes | None:
    """The browser that clicked: its cookie at the edge, as a keyed hash."""
    return None if sale.click is None else sale.click.session_key or None


def _self_referrals(
    order: OrderFact, decision: Decision, by_id: Mapping[str, TouchFact], advertiser_id: BrandId
) -> Iterator[Found]:
    """Per agreement and promoter, what attribution refused as self-promotion."""
    refused: dict[Parties, list[tuple[str, str]]] = {}
    for touch_id, reason in decision.rejected:
        if reason in SELF_PROMOTION:
            parties = parties_of(by_id[touch_id], advertiser_id)
            refused.setdefault(parties, []).append((touch_id, reason))
    for parties, own in refused.items():
        signal = rules.self_referral(order.id, own, SELF_PROMOTION)
        if signal is not None:
            yield Found(signal, parties, (order.id, str(parties.promoter)))


def _too_fast(order: OrderFact, sale: Sale) -> Iterator[Found]:
    if sale.touch.kind not in _CLICKED:
        return
    signal = rules.time_to_order_short(
        order.id, sale.touch.id, touch_at=sale.touch.touch_at, paid_at=_paid_at(order)
    )
    if signal is not None:
        yield Found(signal, sale.parties, (order.id,))


def _forbidden(order: OrderFact, sale: Sale, sources: SourceTerms) -> Iterator[Found]:
    if sale.click is None:
        return
    signal = rules.banned_source(
        sale.touch.id,
        order_id=order.id,
        referrer_host=sale.click.referrer_host or "",
        ad_parameters=(sale.click.ad_parameters or "").split(",") if sale.click.ad_parameters else (),
        banned_hosts=frozenset(sources.banned_hosts),
        paid_traffic_allowed=sources.paid_allowed,
    )
    if signal is not None:
        yield Found(signal, sale.parties, (order.id,), action=_ON_BREACH[sources.on_breach])


async def _flooded(session: AsyncSession, sale: Sale) -> list[Found]:
    click = sale.click
    if click is None or click.crowd < rules.FLOOD_CLICKS:
        return []
    asked = {
        "link": click.link_id, "at": click.at, "minute": MINUTE, "network": click.ip_prefix_hash,
        "agent": click.user_agent_hash, "most": _MOST_CLICKS,
    }  # fmt: skip
    near = [
        Click(str(TouchId.of(row.id)), "", "", "", row.at) for row in await session.execute(_CROWD, asked)
    ]
    return [
        flood_of(sale.parties, click, signal)
        for signal in rules.click_flood(near)
        if sale.touch.id in signal.touch_ids
    ]


def flood_of(parties: Parties, source: Any, signal: Signal) -> Found:
    """One source's flood of one day (UTC). ``source`` has link, network and agent."""
    day = str(signal.evidence["from"])[:10]
    about = (source.link_id.hex, bytes(source.ip_prefix_hash).hex(), bytes(source.user_agent_hash).hex(), day)
    return Found(signal, parties, about, link_id=LinkId.of(source.link_id))


async def _reused(session: AsyncSession, order: OrderFact, sale: Sale) -> list[Found]:
    if not sale.at_new_rate:
        return []
    parties, paid_at = sale.parties, _paid_at(order)
    await session.execute(_ONE_JUDGE, {"promoter": parties.promoter.hex})
    marks = {
        "device": device_of(sale), "instrument": order.payment_instrument_hash, "address": order.address_hash,
    }  # fmt: skip
    asked = {
        **marks, "promoter": parties.promoter, "agreement": parties.agreement_id, "since": paid_at - WEEK,
        "until": paid_at + WEEK, "most": _MOST_SALES,
    }  # fmt: skip
    alike = [
        NewSale(str(OrderId.of(row.order_id)), row.buyer, row.paid_at, {row.kind: str(marks[row.kind])})
        for row in await session.execute(_ALIKE, asked)
    ]
    week = "{}-{}".format(*paid_at.isocalendar()[:2])
    return [
        Found(signal, parties, (str(parties.promoter), kind, str(marks[kind]), week))
        for signal in rules.device_reuse(alike)
        if order.id in signal.order_ids and (kind := str(signal.evidence["kind"]))
    ]
