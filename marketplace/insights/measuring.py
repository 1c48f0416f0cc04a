"""Measures holdouts: every order of the advertiser by a member of the community counts, whoever is credited with it.

A member is the contact of the promoter brand with the e-mail address of the checkout, looked up by its keyed hash; for
a brand's own checkout, with the address or phone number that its shop told (told_buyers.py).
What members bought is added up by arm in memory and thrown away; kept are sums and what they say. The result of each
side has what the orders left that side: the merchant's rest of the price, or the promoter brand's commission.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import BrandId, ContactId, OrderId
from core.money import PPM, Money
from infra.config import Settings
from infra.db.session import Database
from marketplace.audiences.identity import IdentifierKind, IdentityVault
from marketplace.insights import told_buyers
from marketplace.insights.incrementality import Arm, estimate
from marketplace.insights.told_buyers import SETTLED_AFTER
from marketplace.matching import holdouts
from marketplace.matching.holdouts import HELD_OUT, HoldoutRow
from marketplace.matching.ids import HoldoutId
from supply.settlement import partner_facts

MEASURED_EVERY = timedelta(hours=1)
"""By the clock, while it runs; once a day for as long as refunds may come after its end."""
LONGEST_BEFORE = timedelta(days=90)
AT_ONCE = 5_000
COMPARABLE_IN = 10_000
"""The share that could be compared is told in whole percent, rounded down, in ppm."""
ORDERS = "orders"
REVENUE = "revenue"
PROFIT = "profit"
"""What a figure is of; orders have no currency."""

# Those whose last measurement is an hour old, and those that ended and may still change.
_DUE = text(
    "SELECT h.* FROM holdouts h LEFT JOIN LATERAL (SELECT min(r.measured_at) AS at FROM holdout_results r"
    " WHERE r.holdout_id = h.id) last ON true WHERE last.at IS NULL"
    " OR (h.ended_at IS NULL AND last.at <= :hour_ago) OR last.at < h.ended_at"
    " OR (h.ended_at >= :settling AND last.at <= :day_ago) ORDER BY h.id LIMIT 1 FOR UPDATE OF h SKIP LOCKED"
)
_ORDERS = text(
    "SELECT o.id, o.currency, o.paid_at, o.total_minor - o.refunded_minor AS kept_minor, c.email FROM orders o"
    " JOIN checkouts c ON c.id = o.checkout_id WHERE o.merchant_id = :merchant AND o.id > :after"
    " AND o.paid_at >= :since AND o.paid_at < :until ORDER BY o.id LIMIT :limit"
)
_MEMBERS = text(
    f"SELECT i.subject_key, m.contact_id, {HELD_OUT} AS held_out FROM contact_identifiers i"
    " JOIN community_members m ON m.contact_id = i.contact_id AND m.community_id = :community"
    " WHERE i.brand_id = :brand AND i.kind IN ('email', 'phone') AND i.subject_key = ANY(:keys)"
    " AND m.joined_at < :until"
)
_SIZES = text(
    f"SELECT {HELD_OUT} AS held_out, count(*) AS members FROM community_members m"
    " WHERE m.community_id = :community AND m.joined_at < :until GROUP BY 1"
)
_VISITORS = text(
    "SELECT count(DISTINCT t.contact_id) FROM touches t JOIN tracked_links l ON l.id = t.link_id"
    " JOIN community_members m ON m.contact_id = t.contact_id AND m.community_id = :community"
    " WHERE l.agreement_id = :agreement AND l.community_id = :community AND t.at >= :since AND t.at < :until"
    f" AND NOT t.is_bot AND {HELD_OUT}"
)
_ATTRIBUTED = text(
    "SELECT c.currency, count(*) FILTER (WHERE c.opens_order) AS orders,"
    " sum(c.basis_minor - c.refunded_basis_minor)::bigint AS basis_minor,"
    " sum(c.commission_minor - c.reversed_minor - c.denied_minor)::bigint AS commission_minor"
    " FROM commission_lines c JOIN tracked_links l ON l.id = c.link_id"
    " WHERE c.agreement_id = :agreement AND l.community_id = :community AND c.sold_at >= :since AND c.sold_at < :until"
    " GROUP BY c.currency ORDER BY c.currency"
)
_STORE = text(
    "INSERT INTO holdout_results (holdout_id, brand_id, measured_at, measured_until, members_shown, members_held_out,"
    " buyers_shown, buyers_held_out, held_out_visitors, comparable_ppm, estimates, attributed)"
    " VALUES (:holdout, :brand, :now, :until, :shown, :held, :buyers_shown, :buyers_held, :visitors, :comparable,"
    " CAST(:estimates AS jsonb), CAST(:attributed AS jsonb))"
    " ON CONFLICT (holdout_id, brand_id) DO UPDATE SET measured_at = excluded.measured_at,"
    " measured_until = excluded.measured_until, members_shown = excluded.members_shown,"
    " members_held_out = excluded.members_held_out, buyers_shown = excluded.buyers_shown,"
    " buyers_held_out = excluded.buyers_held_out, held_out_visitors = excluded.held_out_visitors,"
    " comparable_ppm = excluded.comparable_ppm, estimates = excluded.estimates, attributed = excluded.attributed"
)
_RESULTS = text(
    "SELECT * FROM holdout_results WHERE holdout_id = ANY(:holdouts)"
    " AND (CAST(:brand AS uuid) IS NULL OR brand_id = CAST(:brand AS uuid)) ORDER BY brand_id"
)
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Incremental:
    """What showing added to all members shown, per ``metric`` (and currency): minor units, or orders.

    ``low`` and ``high`` are the 95 % interval; all three are absent when there is not enough to tell.
    """

    metric: str
    currency: str | None
    total: float | None
    low: float | None
    high: float | None

    @property
    def significant(self) -> bool | None:
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class AttributedSales:
    """What the attribution credits the same links with, in the same time."""

    orders: int
    basis: Money
    commission: Money


@dataclass(frozen=True, slots=True)
class ResultRow:
    holdout_id: HoldoutId
    measured_at: datetime
    measured_until: datetime
    members_shown: int
    members_held_out: int
    buyers_shown: int
    buyers_held_out: int
    held_out_visitors: int
    comparable_ppm: int | None
    """Of the advertiser's orders in the time, those whose buyer could be looked for; in whole percent."""
    incremental: tuple[Incremental, ...]
    attributed: tuple[AttributedSales, ...]


Figure = tuple[str, str | None]
"""(metric, currency)."""


@dataclass(slots=True)
class _Member:
    """One who bought: sums after and before the start, by figure."""

    held_out: bool
    after: dict[Figure, int] = field(default_factory=dict)
    before: dict[Figure, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Bought:
    order_id: OrderId
    currency: str
    kept_minor: int
    keys: tuple[bytes, ...]
    """The promoter brand's, of who bought; none where nobody could be looked for."""
    before: bool


@dataclass(slots=True)
class _Orders:
    """Of the advertiser, after the start: all, and those whose buyer could be looked for."""

    all: int = 0
    comparable: int = 0

    def add(self, bought: Sequence[_Bought]) -> None:
        after = [order for order in bought if not order.before]
        self.all += len(after)
        self.comparable += sum(1 for order in after if order.keys)

    @property
    def comparable_ppm(self) -> int | None:
        return self.comparable * PPM // self.all // COMPARABLE_IN * COMPARABLE_IN if self.all else None


async def measure_due(db: Database, *, clock: Clock, settings: Settings) -> int:
    """Sweep: measure one holdout that is due; 0 when none is."""
    now = clock.now()
    due = {
        "hour_ago": now - MEASURED_EVERY, "day_ago": now - timedelta(days=1), "settling": now - SETTLED_AFTER,
    }  # fmt: skip
    async with db.unit_of_work(SYSTEM) as session:
        row = (await session.execute(_DUE, due)).first()
        if row is None:
            return 0
        await measure(session, holdouts.read(row), secret=settings.secret_key.get_secret_value(), now=now)
    return 1


async def measure(session: AsyncSession, holdout: HoldoutRow, *, secret: str, now: datetime) -> None:
    """Measure from the start until now or the end, for both sides. Needs a SYSTEM session."""
    until = holdout.ended_at or now
    since = holdout.started_at - min(until - holdout.started_at, LONGEST_BEFORE)
    drawn = holdout.drawn(secret).values
    where = {**drawn, "community": holdout.community_id, "until": until}
    sizes = {row.held_out: row.members for row in await session.execute(_SIZES, where)}
    sides: dict[BrandId, dict[ContactId, _Member]] = {
        brand: {} for brand in (holdout.advertiser_id, holdout.promoter_brand_id)
    }
    vault, orders = IdentityVault(secret), _Orders()
    async for bought in _orders(session, holdout, since, until, vault):
        orders.add(bought)
        members = await _members(session, holdout, bought, where)
        for brand, found in sides.items():
            left = await partner_facts.left_of_orders(session, str(brand), [each.order_id for each in bought])
            _add(found, bought, members, left)
    period = {"agreement": holdout.agreement_id, "since": holdout.started_at, **where}
    visitors = (await session.execute(_VISITORS, period)).scalar_one()
    attributed = [dict(row._mapping) for row in await session.execute(_ATTRIBUTED, period)]
    for brand, found in sides.items():
        arms = _arms(found.values(), shown=sizes.get(False, 0), held_out=sizes.get(True, 0))
        shown, held = arms.get((ORDERS, None), (Arm(), Arm()))
        values = {
            "holdout": holdout.id, "brand": brand, "now": now, "until": until, "shown": sizes.get(False, 0),
            "held": sizes.get(True, 0), "buyers_shown": shown.buyers, "buyers_held": held.buyers,
            "visitors": visitors, "comparable": orders.comparable_ppm, "attributed": orjson.dumps(attributed).decode(),
            "estimates": orjson.dumps([asdict(each) for each in _incremental(arms)]).decode(),
        }  # fmt: skip
        await session.execute(_STORE, values)


async def _orders(
    session: AsyncSession, holdout: HoldoutRow, since: datetime, until: datetime, vault: IdentityVault
) -> AsyncIterator[list[_Bought]]:
    after = _FIRST
    while True:
        values = {
            "merchant": holdout.advertiser_id, "after": after, "since": since, "until": until, "limit": AT_ONCE,
        }  # fmt: skip
        rows = (await session.execute(_ORDERS, values)).all()
        if not rows:
            return
        after = rows[-1].id
        keys = await _keys(session, holdout.promoter_brand_id, rows, vault)
        yield [
            _Bought(
                OrderId.of(row.id), row.currency, row.kept_minor, keys.get(OrderId.of(row.id), ()),
                row.paid_at < holdout.started_at,
            )
            for row in rows
        ]  # fmt: skip


async def _keys(
    session: AsyncSession, brand: BrandId, rows: Sequence[Row[Any]], vault: IdentityVault
) -> dict[OrderId, tuple[bytes, ...]]:
    """By order, the brand's keys of who bought. Only orders of own checkouts have no address."""
    by_email: dict[str, tuple[bytes, ...]] = {
        email: (vault.key(brand, IdentifierKind.EMAIL, email),)
        for email in {row.email for row in rows if row.email}
    }
    keys = {OrderId.of(row.id): by_email[row.email] for row in rows if row.email}
    told = [OrderId.of(row.id) for row in rows if not row.email]
    return {**keys, **await told_buyers.keys_of(session, brand, told)} if told else keys


async def _members(
    session: AsyncSession, holdout: HoldoutRow, bought: Sequence[_Bought], where: Mapping[str, Any]
) -> dict[bytes, tuple[ContactId, bool]]:
    """Those of the buyers who are members: by key, who, and whether held out."""
    keys = {key for each in bought for key in each.keys}
    values = {**where, "brand": holdout.promoter_brand_id, "keys": list(keys)}
    rows = await session.execute(_MEMBERS, values)
    return {bytes(row.subject_key): (ContactId.of(row.contact_id), row.held_out) for row in rows}


def _add(
    found: dict[ContactId, _Member],
    bought: Sequence[_Bought],
    members: Mapping[bytes, tuple[ContactId, bool]],
    left: Mapping[OrderId, int],
) -> None:
    for order in bought:
        key = next((key for key in order.keys if key in members), None)
        if key is None:
            continue
        contact, held_out = members[key]
        member = found.setdefault(contact, _Member(held_out))
        sums = member.before if order.before else member.after
        figures: dict[Figure, int] = {
            (ORDERS, None): int(order.kept_minor > 0), (REVENUE, order.currency): order.kept_minor,
            (PROFIT, order.currency): left.get(order.order_id, 0),
        }  # fmt: skip
        for figure, value in figures.items():
            sums[figure] = sums.get(figure, 0) + value


def _arms(members: Collection[_Member], *, shown: int, held_out: int) -> dict[Figure, tuple[Arm, Arm]]:
    """By figure, the members shown and the members held out; who bought nothing is in the numbers of members."""
    figures = sorted(
        {figure for member in members for figure in (*member.after, *member.before)},
        key=lambda figure: (figure[0], figure[1] or ""),
    )
    arms: dict[Figure, tuple[Arm, Arm]] = {figure: (Arm(shown), Arm(held_out)) for figure in figures}
    for member in members:
        for figure, pair in arms.items():
            pair[member.held_out].add(member.after.get(figure, 0), member.before.get(figure, 0))
    return arms


def _incremental(arms: Mapping[Figure, tuple[Arm, Arm]]) -> list[Incremental]:
    found = []
    for (metric, currency), (shown, held_out) in arms.items():
        per_member, n = estimate(shown, held_out), shown.members
        if per_member is None:
            found.append(Incremental(metric, currency, None, None, None))
        else:
            total, low, high = (n * each for each in (per_member.per_member, per_member.low, per_member.high))
            found.append(Incremental(metric, currency, total, low, high))
    return found


async def results_of(
    session: AsyncSession, actor: Actor, holdout_ids: Sequence[HoldoutId]
) -> dict[HoldoutId, ResultRow]:
    """The actor's side of each that was measured. One statement."""
    brand = None if actor.sees_everything else actor.brand_id
    rows = await session.execute(_RESULTS, {"holdouts": list(holdout_ids), "brand": brand})
    return {found.holdout_id: found for found in map(_result, rows)}


def _result(row: Row[Any]) -> ResultRow:
    return ResultRow(
        HoldoutId.of(row.holdout_id), row.measured_at, row.measured_until, row.members_shown, row.members_held_out,
        row.buyers_shown, row.buyers_held_out, row.held_out_visitors, row.comparable_ppm,
        tuple(Incremental(**each) for each in row.estimates),
        tuple(
            AttributedSales(
                each["orders"], Money(each["basis_minor"], each["currency"]),
                Money(each["commission_minor"], each["currency"]),
            )
            for each in row.attributed
        ),
    )  # fmt: skip
