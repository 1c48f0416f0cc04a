"""What links brought, summed by partner, community, placement, person, link or printed arm, over days (UTC).

Both sides of an agreement read the same rows, so they see the same figures; a promoter brand has no rows of another's
links. Everything is a sum of ``link_performance``; rates are made of sums, here, with integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import (
    AgreementId,
    BrandId,
    CommunityId,
    LinkId,
    MalformedId,
    PlacementId,
    PromoterId,
    TypedId,
)
from core.money import PPM, Money, half_up_ratio
from core.pagination import BadPage, Page, PageRequest, page_of
from marketplace.insights.counting import NO_CURRENCY
from marketplace.insights.errors import BadPeriod
from marketplace.promotion.directory.models import PartnerRole
from marketplace.promotion.ids import CampaignId, QrAssetId

MOST_DAYS = 366
_NOBODY = UUID(int=0)
"""Stands for "none of these" (a link without a person, a visit without print) where pages are cut."""


class Dimension(StrEnum):
    PARTNER = "PARTNER"
    AGREEMENT = "AGREEMENT"
    CAMPAIGN = "CAMPAIGN"
    COMMUNITY = "COMMUNITY"
    PLACEMENT = "PLACEMENT"
    PROMOTER = "PROMOTER"
    LINK = "LINK"
    CREATIVE = "CREATIVE"
    """An arm of a print batch."""


class PerformanceSort(StrEnum):
    ORDERS = "ORDERS"
    VISITS = "VISITS"


@dataclass(frozen=True, slots=True)
class _Grouping:
    """``key`` of a row ``p`` of the sums and its link ``l``; what is joined for it; where its ``name`` is read."""

    kind: type[TypedId]
    key: str
    joined: str = ""
    named: str = ""
    name: str = "NULL::text"


_GROUPINGS: dict[Dimension, _Grouping] = {
    Dimension.PARTNER: _Grouping(
        BrandId,
        "CASE WHEN p.advertiser_id = CAST(:me AS uuid) THEN p.promoter_brand_id"
        " WHEN p.promoter_brand_id = CAST(:me AS uuid) THEN p.advertiser_id"
        " WHEN CAST(:side AS text) = 'PROMOTER' THEN p.advertiser_id ELSE p.promoter_brand_id END",
        named="LEFT JOIN tenant_names(ARRAY(SELECT key FROM g)) n ON n.id = g.key",
        name="n.name",
    ),
    Dimension.AGREEMENT: _Grouping(AgreementId, "l.agreement_id"),
    Dimension.CAMPAIGN: _Grouping(
        CampaignId,
        "a.campaign_id",
        joined="LEFT JOIN agreements a ON a.id = l.agreement_id",
        named="LEFT JOIN campaigns n ON n.id = g.key",
        name="n.name",
    ),
    Dimension.COMMUNITY: _Grouping(
        CommunityId, "l.community_id", named="LEFT JOIN communities n ON n.id = g.key", name="n.name"
    ),
    Dimension.PLACEMENT: _Grouping(
        PlacementId, "l.placement_id", named="LEFT JOIN placements n ON n.id = g.key", name="n.name"
    ),
    # Row-level security gives the name to the brand the person promotes for alone.
    Dimension.PROMOTER: _Grouping(
        PromoterId, "l.promoter_id", named="LEFT JOIN promoters n ON n.id = g.key", name="n.name"
    ),
    Dimension.LINK: _Grouping(
        LinkId, "p.link_id", named="LEFT JOIN tracked_links n ON n.id = g.key", name="n.code"
    ),
    Dimension.CREATIVE: _Grouping(
        QrAssetId,
        "q.id",
        joined="LEFT JOIN qr_assets q ON q.link_id = p.link_id",
        named="LEFT JOIN qr_assets n ON n.id = g.key",
        name="n.arm",
    ),
}


@dataclass(frozen=True, slots=True)
class PerformanceFilter:
    """Days [since, until], both in it. ``side``: what the caller earns, what it pays, or both when absent."""

    since: date
    until: date
    side: PartnerRole | None = None
    partner_id: BrandId | None = None
    agreement_id: AgreementId | None = None
    community_id: CommunityId | None = None
    promoter_id: PromoterId | None = None
    link_id: LinkId | None = None

    def __post_init__(self) -> None:
        if not 0 <= (self.until - self.since).days < MOST_DAYS:
            raise BadPeriod(f"from a day to the same or a later one, at most {MOST_DAYS} days", field="from")


@dataclass(frozen=True, slots=True)
class MoneyFigures:
    """Sums of one currency, minor units. Commission is in one of its five states, after what left it for another."""

    currency: str
    orders: int = 0
    gross_minor: int = 0
    basis_minor: int = 0
    refunded_basis_minor: int = 0
    pending_minor: int = 0
    confirmed_minor: int = 0
    paid_minor: int = 0
    invalid_minor: int = 0
    reversed_minor: int = 0
    fee_minor: int = 0
    adjustment_minor: int = 0
    """What retroactive tiers owed for earlier orders: no line's, and so in none of the states."""

    @property
    def commission_minor(self) -> int:
        """As first earned: the five states together."""
        return self.standing_minor + self.invalid_minor + self.reversed_minor

    @property
    def standing_minor(self) -> int:
        return self.pending_minor + self.confirmed_minor + self.paid_minor

    @property
    def average_order(self) -> Money | None:
        if not self.orders:
            return None
        return Money(half_up_ratio(self.gross_minor, self.orders), self.currency)

    def per_hundred(self, visits: int) -> Money | None:
        """What the promoting side has of a hundred visits: standing commission without the platform's part."""
        if not visits:
            return None
        return Money(half_up_ratio(100 * (self.standing_minor - self.fee_minor), visits), self.currency)


@dataclass(frozen=True, slots=True)
class Figures:
    clicks: int = 0
    unique_clicks: int = 0
    scans: int = 0
    leads: int = 0
    bots: int = 0
    excluded_visits: int = 0
    orders: int = 0
    assisted_orders: int = 0
    new_customer_orders: int = 0
    refunded_orders: int = 0
    money: tuple[MoneyFigures, ...] = ()
    """By currency, those with a sale."""

    @property
    def visits(self) -> int:
        """Those that could earn: what fraud excludes is off."""
        return self.unique_clicks + self.scans - self.excluded_visits

    @property
    def returning_customer_orders(self) -> int:
        return self.orders - self.new_customer_orders

    @property
    def conversion_ppm(self) -> int | None:
        return half_up_ratio(self.orders * PPM, self.visits) if self.visits else None


_COUNTS = tuple(each.name for each in fields(Figures) if each.name != "money")
_AMOUNTS = tuple(each.name for each in fields(MoneyFigures) if each.name != "currency")


@dataclass(frozen=True, slots=True)
class GroupRow:
    """``id`` is absent where a link has none of the kind; ``name`` where the caller may not read it."""

    id: TypedId | None
    name: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class DayRow:
    day: date
    figures: Figures


_WHICH = (
    " p.day BETWEEN :since AND :until"
    " AND (CAST(:me AS uuid) IS NULL"
    "  OR (p.advertiser_id = CAST(:me AS uuid) AND CAST(:side AS text) IS DISTINCT FROM 'PROMOTER')"
    "  OR (p.promoter_brand_id = CAST(:me AS uuid) AND CAST(:side AS text) IS DISTINCT FROM 'ADVERTISER'))"
    " AND (CAST(:partner AS uuid) IS NULL OR CAST(:partner AS uuid) IN (p.advertiser_id, p.promoter_brand_id))"
    " AND (CAST(:agreement AS uuid) IS NULL OR l.agreement_id = :agreement)"
    " AND (CAST(:community AS uuid) IS NULL OR l.community_id = :community)"
    " AND (CAST(:promoter AS uuid) IS NULL OR l.promoter_id = :promoter)"
    " AND (CAST(:link AS uuid) IS NULL OR p.link_id = :link)"
)
_FROM = "FROM link_performance p JOIN tracked_links l ON l.id = p.link_id"
_SUMS = ", ".join(f"sum(p.{name})::bigint AS {name}" for name in dict.fromkeys((*_COUNTS, *_AMOUNTS)))
_SCORE = {PerformanceSort.ORDERS: "orders", PerformanceSort.VISITS: "unique_clicks + scans - excluded_visits"}


def _folded(by: str, source: str) -> str:
    """Sums by currency brought together: counts added up, amounts as a list of objects."""
    counts = ", ".join(f"sum({name})::bigint AS {name}" for name in _COUNTS)
    amounts = ", ".join(f"'{name}', {name}" for name in _AMOUNTS)
    return (
        f"SELECT {by}, {counts}, coalesce(jsonb_agg(jsonb_build_object('currency', currency, {amounts})"
        f" ORDER BY currency) FILTER (WHERE currency <> '{NO_CURRENCY}'), '[]') AS money FROM {source} GROUP BY {by}"
    )


def _page_statement(dimension: Dimension, sort: PerformanceSort) -> TextClause:
    by = _GROUPINGS[dimension]
    return text(
        f"WITH c AS (SELECT coalesce({by.key}, '{_NOBODY}') AS key, p.currency, {_SUMS} {_FROM} {by.joined}"
        f" WHERE {_WHICH} GROUP BY 1, 2),"
        f" folded AS ({_folded('key', 'c')}),"
        f" scored AS (SELECT *, {_SCORE[sort]} AS score FROM folded),"
        " g AS (SELECT * FROM scored WHERE CAST(:after_score AS bigint) IS NULL"
        "  OR (score, key) < (:after_score, CAST(:after_key AS uuid)) ORDER BY score DESC, key DESC LIMIT :limit)"
        f" SELECT g.*, {by.name} AS name FROM g {by.named} ORDER BY g.score DESC, g.key DESC"
    )


def _days_statement(dimension: Dimension) -> TextClause:
    by = _GROUPINGS[dimension]
    return text(
        f"WITH c AS (SELECT coalesce({by.key}, '{_NOBODY}') AS key, p.day, p.currency, {_SUMS} {_FROM} {by.joined}"
        f" WHERE {_WHICH} AND coalesce({by.key}, '{_NOBODY}') = ANY(:keys) GROUP BY 1, 2, 3)"
        f" {_folded('key, day', 'c')} ORDER BY key, day"
    )


_PAGES = {(d, s): _page_statement(d, s) for d in Dimension for s in PerformanceSort}
_DAYS = {dimension: _days_statement(dimension) for dimension in Dimension}
_ALL_DAYS = text(
    f"WITH c AS (SELECT p.day, p.currency, {_SUMS} {_FROM} WHERE {_WHICH} GROUP BY 1, 2)"
    f" {_folded('day', 'c')} ORDER BY day"
)


async def groups_page(
    session: AsyncSession,
    actor: Actor,
    dimension: Dimension,
    wanted: PerformanceFilter,
    request: PageRequest,
    *,
    sort: PerformanceSort = PerformanceSort.ORDERS,
) -> Page[GroupRow]:
    """The most orders (or visits) first. One statement. Raises ``BadPage``."""
    kind = _GROUPINGS[dimension].kind
    score, key = _position(request, kind)
    values = {**_values(actor, wanted), "after_score": score, "after_key": key, "limit": request.first + 1}
    rows = (await session.execute(_PAGES[dimension, sort], values)).all()
    page = page_of(rows, request, lambda row: (str(row.score), str(kind.of(row.key))))
    return Page([_group(kind, row) for row in page.items], page.cursors, page.has_next)


async def days_of(
    session: AsyncSession,
    actor: Actor,
    dimension: Dimension,
    wanted: PerformanceFilter,
    ids: Iterable[TypedId | None],
) -> dict[TypedId | None, list[DayRow]]:
    """The days on which anything happened, by group. One statement for all groups asked for."""
    keys = [_NOBODY if each is None else UUID(int=each.int) for each in ids]
    kind, found = _GROUPINGS[dimension].kind, dict[TypedId | None, list[DayRow]]()
    for row in await session.execute(_DAYS[dimension], {**_values(actor, wanted), "keys": keys}):
        found.setdefault(_id(kind, row.key), []).append(DayRow(row.day, _figures(row)))
    return found


async def all_days(session: AsyncSession, actor: Actor, wanted: PerformanceFilter) -> list[DayRow]:
    """The days on which anything happened, all groups together. One statement."""
    rows = await session.execute(_ALL_DAYS, _values(actor, wanted))
    return [DayRow(row.day, _figures(row)) for row in rows]


def total(days: Sequence[DayRow]) -> Figures:
    """Days add up."""
    money: dict[str, list[MoneyFigures]] = {}
    for day in days:
        for each in day.figures.money:
            money.setdefault(each.currency, []).append(each)
    return Figures(
        **{name: sum(getattr(day.figures, name) for day in days) for name in _COUNTS},
        money=tuple(
            MoneyFigures(currency, **{name: sum(getattr(each, name) for each in parts) for name in _AMOUNTS})
            for currency, parts in sorted(money.items())
        ),
    )


def _values(actor: Actor, wanted: PerformanceFilter) -> dict[str, Any]:
    actor.require("promotion:read")
    return {
        "me": None if actor.sees_everything else actor.brand_id, "since": wanted.since, "until": wanted.until,
        "side": wanted.side.value if wanted.side else None, "partner": wanted.partner_id,
        "agreement": wanted.agreement_id, "community": wanted.community_id, "promoter": wanted.promoter_id,
        "link": wanted.link_id,
    }  # fmt: skip


def _position(request: PageRequest, kind: type[TypedId]) -> tuple[int | None, UUID | None]:
    if not request.key:
        return None, None
    try:
        score, key = request.key
        return int(score), kind.parse(key)
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="after") from error


def _id(kind: type[TypedId], key: UUID) -> TypedId | None:
    return None if key == _NOBODY else kind.of(key)


def _group(kind: type[TypedId], row: Row[Any]) -> GroupRow:
    return GroupRow(_id(kind, row.key), row.name, _figures(row))


def _figures(row: Row[Any]) -> Figures:
    money: Sequence[Mapping[str, Any]] = row.money
    counts = {name: getattr(row, name) for name in _COUNTS}
    return Figures(**counts, money=tuple(MoneyFigures(**each) for each in money))
