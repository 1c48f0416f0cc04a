"""Reads of the directory: who wants to be found, by words, goods, place, reach and rate; the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    ColumnElement,
    String,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.canonical import from_micros, to_micros
from core.ids import BrandId, MalformedId
from core.money import PPM
from core.pagination import BadPage, Page, PageRequest, encode_cursor
from infra.db.base import table_of
from infra.db.text import storable
from infra.search.text import QueryWord, query_words, tsquery
from marketplace.promotion.directory.errors import BadPartnerProfile, PartnerNotFound
from marketplace.promotion.directory.models import (
    AudienceBand,
    PartnerListing,
    PartnerProfileVersion,
    PartnerRecord,
    PartnerRole,
    ProfileStatus,
)
from marketplace.promotion.directory.profile import PartnerProfile, checked_category, checked_region
from marketplace.promotion.directory.track_record import Counts, TrackRecord

_TABLE = table_of(PartnerListing)
_L, _V, _R = _TABLE.c, table_of(PartnerProfileVersion).c, table_of(PartnerRecord).c
_WEIGHTS = cast([0.1, 0.3, 0.6, 1.0], ARRAY(REAL))
_SCORE_UNITS = 1_000_000
_LONGEST_TEXT = 200
_ALL, _ANY = "all", "any"
_UNKNOWN = -1
_LARGEST_SCORE = 2**33 * _SCORE_UNITS
"""Microseconds until the year 2242, and more than any rank."""


class PartnerSort(StrEnum):
    BEST_MATCH = "BEST_MATCH"
    """By the words asked for; without any the latest change first."""
    NEWEST = "NEWEST"
    CONVERSION = "CONVERSION"
    FEWEST_REFUNDS = "FEWEST_REFUNDS"
    PUNCTUALITY = "PUNCTUALITY"


_RANKS: dict[PartnerSort, ColumnElement[Any]] = {
    PartnerSort.CONVERSION: _L.conversion_rank,
    PartnerSort.FEWEST_REFUNDS: _L.refund_rank,
    PartnerSort.PUNCTUALITY: _L.punctuality_rank,
}


@dataclass(frozen=True, slots=True)
class PartnerFilter:
    """All that is given must hold. ``category`` finds whoever names it or something below it; ``region`` whoever
    names it, a part of it, or the country it lies in. A rate range holds when the two ranges meet."""

    text: str = ""
    role: PartnerRole | None = None
    category: str | None = None
    region: str | None = None
    audience_bands: Sequence[AudienceBand] = ()
    rate_at_least_ppm: int | None = None
    rate_at_most_ppm: int | None = None
    sort: PartnerSort = PartnerSort.BEST_MATCH


@dataclass(frozen=True, slots=True)
class PartnerRow:
    """A brand of the directory; ``records`` by the side it was on."""

    brand_id: BrandId
    version: int
    name: str
    headline: str
    offers: str
    seeks: str
    roles: Sequence[PartnerRole]
    categories: Sequence[str]
    sought_categories: Sequence[str]
    regions: Sequence[str]
    audience_band: AudienceBand | None
    rate_min_ppm: int | None
    rate_max_ppm: int | None
    window_s: int
    return_window_days: int
    listed_at: datetime
    updated_at: datetime
    records: Mapping[PartnerRole, TrackRecord]


@dataclass(frozen=True, slots=True)
class ProfileVersionRow:
    version: int
    status: ProfileStatus
    profile: PartnerProfile
    published_at: datetime


_LISTING = (
    _L.brand_id, _L.version, _L.name, _L.headline, _L.offers, _L.seeks, _L.roles, _L.categories,
    _L.sought_categories, _L.regions, _L.audience_band, _L.rate_min_ppm, _L.rate_max_ppm, _L.window_s,
    _L.return_window_days, _L.listed_at, _L.updated_at, _L.record,
)  # fmt: skip


async def partners_page(
    session: AsyncSession, actor: Actor, filter: PartnerFilter, request: PageRequest
) -> Page[PartnerRow]:
    """Brands with all the words of the text; when there is none, with any. Two statements at most.

    The actor's own brand is left out. Raises ``BadPartnerProfile`` for a filter that means nothing, ``BadPage``.
    """
    _reading_brand(actor)
    words = _words(filter)
    if filter.text.strip() and not words:
        return Page((), (), False)
    stage = _key(request)[0] if request.key else _ALL
    page = await _page(session, actor, filter, words, request, stage)
    if not page.items and stage == _ALL and len(words) > 1 and not request.key:
        page = await _page(session, actor, filter, words, request, _ANY)
    return page


async def partners_count(session: AsyncSession, actor: Actor, filter: PartnerFilter) -> int:
    """How many have all the words, or, when there is none, any."""
    _reading_brand(actor)
    words = _words(filter)
    if filter.text.strip() and not words:
        return 0
    found = 0
    for stage in (_ALL, _ANY) if len(words) > 1 else (_ALL,):
        wanted = select(func.count()).select_from(_TABLE).where(*_matching(actor, filter, words, stage))
        found = found or await session.scalar(wanted) or 0
    return found


async def partner(session: AsyncSession, actor: Actor, brand_id: BrandId) -> PartnerRow:
    """Raises ``PartnerNotFound`` for a brand that is not in the directory."""
    _reading_brand(actor)
    row = (await session.execute(select(*_LISTING).where(_L.brand_id == brand_id, _L.brand_active))).first()
    if row is None:
        raise PartnerNotFound("no such brand in the directory", field="id")
    return _partner(row)


async def profile_history(
    session: AsyncSession, brand_ids: Sequence[BrandId], *, most: int = 10
) -> dict[BrandId, list[ProfileVersionRow]]:
    """The latest versions of profiles that the session's tenant may see (row-level security), newest first."""
    place = func.row_number().over(partition_by=_V.brand_id, order_by=_V.version.desc()).label("place")
    numbered = (
        select(_V.brand_id, _V.version, _V.status, _V.profile, _V.published_at, place)
        .where(_V.brand_id.in_(brand_ids))
        .subquery()
    )
    wanted = select(numbered).where(numbered.c.place <= most).order_by(numbered.c.version.desc())
    found: dict[BrandId, list[ProfileVersionRow]] = {}
    for row in await session.execute(wanted):
        version = ProfileVersionRow(
            row.version, ProfileStatus(row.status), PartnerProfile.from_json(row.profile), row.published_at
        )
        found.setdefault(row.brand_id, []).append(version)
    return found


async def own_profile(session: AsyncSession, actor: Actor) -> ProfileVersionRow | None:
    """The latest version of the actor's own brand, listed or withdrawn."""
    _reading_brand(actor)
    return next(
        iter((await profile_history(session, [actor.brand_id], most=1)).get(actor.brand_id, [])), None
    )


async def own_counts(session: AsyncSession, actor: Actor) -> dict[PartnerRole, Counts]:
    """What stands behind the actor's own track record, as of the last sweep."""
    _reading_brand(actor)
    wanted = select(
        _R.role, _R.clicks, _R.orders, _R.refunded_orders, _R.disputed_orders, _R.commissions_due,
        _R.commissions_in_time, _R.partners, _R.members,
    ).where(_R.brand_id == actor.brand_id)  # fmt: skip
    return {PartnerRole(row[0]): Counts(*row[1:]) for row in await session.execute(wanted)}


def _reading_brand(actor: Actor) -> None:
    actor.require("promotion:read")
    if actor.kind is not ActorKind.BRAND and not actor.sees_everything:
        raise WrongTenant("the directory is for brands")


async def _page(
    session: AsyncSession,
    actor: Actor,
    filter: PartnerFilter,
    words: Sequence[QueryWord],
    request: PageRequest,
    stage: str,
) -> Page[PartnerRow]:
    score = _score(filter.sort, words, stage)
    conditions = _matching(actor, filter, words, stage)
    if request.key:
        _, last_score, last_id = _key(request)
        # A cursor of another order is a number all the same; as a bigint it fits beside every rank.
        by_time = score is _L.updated_at
        last = literal(from_micros(last_score), score.type) if by_time else literal(last_score, BigInteger)
        at = tuple_(last, literal(last_id, _L.brand_id.type))
        conditions.append(tuple_(score, _L.brand_id) < at)
    wanted = select(*_LISTING, score.label("score")).where(*conditions)
    wanted = wanted.order_by(score.desc(), _L.brand_id.desc()).limit(request.first + 1)
    rows = (await session.execute(wanted)).all()
    items = rows[: request.first]
    cursors = [encode_cursor(stage, _number(row.score), str(row.brand_id)) for row in items]
    return Page([_partner(row) for row in items], cursors, len(rows) > request.first)


def _key(request: PageRequest) -> tuple[str, int, BrandId]:
    try:
        stage, score, brand = request.key or ()
        if stage not in (_ALL, _ANY) or not _UNKNOWN <= int(score) <= _LARGEST_SCORE:
            raise ValueError
        return stage, int(score), BrandId.parse(brand)
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="after") from error


def _words(filter: PartnerFilter) -> list[QueryWord]:
    if len(filter.text) > _LONGEST_TEXT or not storable(filter.text):
        raise BadPartnerProfile(f"text: at most {_LONGEST_TEXT} characters of real text", field="text")
    return query_words(filter.text)


def _score(sort: PartnerSort, words: Sequence[QueryWord], stage: str) -> ColumnElement[Any]:
    """What a list is in the order of; a column with an index, unless words narrow it first."""
    if sort in _RANKS:
        return _RANKS[sort]
    if sort is PartnerSort.BEST_MATCH and words:
        rank = func.ts_rank(_WEIGHTS, _L.tokens, _query(words, stage))
        return cast(rank * _SCORE_UNITS, BigInteger)
    return _L.updated_at


def _number(score: Any) -> str:
    return str(to_micros(score) if isinstance(score, datetime) else score)


def _matching(
    actor: Actor, filter: PartnerFilter, words: Sequence[QueryWord], stage: str
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [_L.brand_active]
    if actor.kind is ActorKind.BRAND:
        wanted.append(_L.brand_id != actor.brand_id)
    if words:
        wanted.append(_L.tokens.bool_op("@@")(_query(words, stage)))
    if filter.role is not None:
        wanted.append(_L.roles.contains([filter.role.value]))
    if filter.category is not None:
        wanted.append(_L.category_paths.contains([checked_category(filter.category, field="category")]))
    if filter.region is not None:
        region = checked_region(filter.region, field="region")
        # Whoever serves the whole country serves each part of it.
        wanted.append(or_(_L.region_paths.contains([region]), _L.regions.contains([region[:2]])))
    if filter.audience_bands:
        wanted.append(_L.audience_band.in_([band.value for band in filter.audience_bands]))
    if filter.rate_at_least_ppm is not None:
        wanted.append(_L.rate_max_ppm >= _rate(filter.rate_at_least_ppm, "rateAtLeastPpm"))
    if filter.rate_at_most_ppm is not None:
        wanted.append(_L.rate_min_ppm <= _rate(filter.rate_at_most_ppm, "rateAtMostPpm"))
    return [and_(*wanted)]


def _rate(value: int, field: str) -> int:
    if not 0 <= value <= PPM:
        raise BadPartnerProfile(f"{field}: 0 to {PPM}", field=field)
    return value


def _query(words: Sequence[QueryWord], stage: str) -> ColumnElement[Any]:
    return cast(cast(tsquery(words, every=stage == _ALL), String), TSQUERY)


def _partner(row: Any) -> PartnerRow:
    return PartnerRow(
        row.brand_id, row.version, row.name, row.headline, row.offers, row.seeks,
        [PartnerRole(role) for role in row.roles], row.categories, row.sought_categories, row.regions,
        None if row.audience_band is None else AudienceBand(row.audience_band), row.rate_min_ppm,
        row.rate_max_ppm, row.window_s, row.return_window_days, row.listed_at, row.updated_at,
        {PartnerRole(role): TrackRecord.from_json(record) for role, record in row.record.items()},
    )  # fmt: skip
