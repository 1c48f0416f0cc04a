"""A promoter's code that was entered at a checkout is a touch; and whether the code has leaked.

An exclusive code says who brought the buyer better than any click, as long as only the promoter's people know it. Of
every entry it is kept whether the buyer had come by the promoter's own placements, too; the fraud rule COUPON_LEAK
counts those who had not, and flags the code. A flag holds from a moment on: an entry is judged by its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, CheckoutId, PromoterId, TouchId
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.facts import TouchFact, TouchKind


def entered(used: str) -> str:
    """The part of a WITH that makes touches of used codes. ``used`` gives coupon, link, checkout and moment."""
    return (
        f"entry AS (SELECT uuidv7() AS touch_id, * FROM ({used}) u (coupon_id, link_id, checkout_id, at)"
        " WHERE link_id IS NOT NULL),"
        " touched AS (INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind,"
        " is_bot) SELECT e.touch_id, l.id, l.agreement_id, l.advertiser_id, l.promoter_brand_id, e.at, 'coupon', false"
        " FROM entry e JOIN tracked_links l ON l.id = e.link_id),"
        " noted AS (INSERT INTO coupon_entries (touch_id, coupon_id, checkout_id, entered_at)"
        " SELECT touch_id, coupon_id, checkout_id, at FROM entry)"
    )


# The advertiser's own code goes before a promoter's of the same letters.
_ENTER = text(
    "WITH wanted AS (SELECT DISTINCT ON (code) id FROM coupons WHERE code = ANY(:codes) AND link_id IS NOT NULL"
    " AND advertiser_id = :advertiser AND status = 'active' AND starts_at <= :at AND (ends_at IS NULL OR ends_at > :at)"
    " ORDER BY code, owner_id = :advertiser DESC, id),"
    " used AS (UPDATE coupons c SET uses = c.uses + 1 FROM wanted w WHERE c.id = w.id"
    " AND (c.max_uses IS NULL OR c.uses < c.max_uses) RETURNING c.id, c.link_id, c.code),"
    f" {entered('SELECT id, link_id, CAST(:checkout AS uuid), CAST(:at AS timestamptz) FROM used')}"
    " SELECT code FROM used"
)
_WITHDRAW = text(
    "WITH gone AS (DELETE FROM coupon_entries WHERE checkout_id = ANY(:checkouts) AND owner_touched IS NULL"
    " RETURNING coupon_id), counted AS (SELECT coupon_id, count(*) AS n FROM gone GROUP BY coupon_id)"
    " UPDATE coupons c SET uses = c.uses - counted.n FROM counted WHERE c.id = counted.coupon_id"
)
_OF_CHECKOUTS = text("SELECT checkout_id, touch_id FROM coupon_entries WHERE checkout_id = ANY(:checkouts)")
_JUDGE = text(
    "UPDATE coupon_entries e SET owner_touched = n.touched"
    " FROM unnest(CAST(:touches AS uuid[]), CAST(:touched AS boolean[])) AS n (id, touched) WHERE e.touch_id = n.id"
)
# The index on (coupon, moment) gives one code's entries; flagged codes are done with.
_TALLY = text(
    "SELECT c.id, l.promoter_brand_id, l.promoter_id, n.entries, n.strangers, n.last_at FROM coupons c"
    " JOIN tracked_links l ON l.id = c.link_id CROSS JOIN LATERAL (SELECT count(*) AS entries,"
    " count(*) FILTER (WHERE NOT e.owner_touched) AS strangers, max(e.entered_at) AS last_at FROM coupon_entries e"
    " WHERE e.coupon_id = c.id AND e.entered_at > :since AND e.owner_touched IS NOT NULL) n"
    " WHERE c.exclusive AND c.leaked_since IS NULL AND n.entries >= :least ORDER BY c.id"
)
_FLAG = text(
    "UPDATE coupons SET leaked_since = :since WHERE id = ANY(:ids) AND exclusive"
    " AND (leaked_since IS NULL OR leaked_since > :since) RETURNING id"
)
_CLEAR = text(
    "UPDATE coupons SET leaked_since = NULL WHERE id = :id AND leaked_since IS NOT NULL RETURNING 1"
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one exclusive code: the attributed ``entries``, and how many of those buyers were ``strangers``, who had
    come by none of the promoter's placements."""

    coupon_id: CouponId
    promoter_brand_id: BrandId
    promoter_id: PromoterId | None
    entries: int
    strangers: int
    last_at: datetime


async def enter(
    session: AsyncSession,
    checkout_id: CheckoutId,
    codes: Sequence[str],
    *,
    advertiser_id: BrandId,
    at: datetime,
) -> set[str]:
    """Promoters' codes that an order of another checkout names: those that could be used, each counted once and a
    touch now. What they took off is that checkout's business. SYSTEM session."""
    named = {"codes": list(codes), "advertiser": advertiser_id, "at": at, "checkout": checkout_id}
    return set((await session.execute(_ENTER, named)).scalars())


async def withdraw(session: AsyncSession, checkouts: Sequence[CheckoutId]) -> None:
    """Orders of other checkouts came to nothing before they were paid: their uses are free again. SYSTEM session."""
    await session.execute(_WITHDRAW, {"checkouts": list(checkouts)})


async def entries_of(
    session: AsyncSession, checkouts: Sequence[CheckoutId]
) -> dict[CheckoutId, list[TouchId]]:
    """The touches of codes entered for these checkouts. One statement, SYSTEM session."""
    found: dict[CheckoutId, list[TouchId]] = {}
    for row in await session.execute(_OF_CHECKOUTS, {"checkouts": list(checkouts)}):
        found.setdefault(CheckoutId.of(row.checkout_id), []).append(TouchId.of(row.touch_id))
    return found


async def judge_entries(session: AsyncSession, touches: Sequence[TouchFact]) -> None:
    """Keep, of the codes among an order's touches, whether their promoters' placements had touched the buyer."""
    entries = [touch for touch in touches if touch.kind is TouchKind.COUPON]
    if entries:
        values = {
            "touches": [TouchId.parse(each.id) for each in entries],
            "touched": [owner_touched(each, touches) for each in entries],
        }
        await session.execute(_JUDGE, values)


def owner_touched(entry: TouchFact, touches: Sequence[TouchFact]) -> bool:
    """Whether the buyer had come by a placement of who owns the code: the individual's links or the slot of the
    code's own link; where it is nobody's in person, any of the promoter brand's."""
    return any(
        touch.kind is not TouchKind.COUPON
        and not touch.is_bot
        and touch.touch_at <= entry.touch_at
        and touch.promoter_brand_id == entry.promoter_brand_id
        and (
            entry.promoter_id is None
            or touch.promoter_id == entry.promoter_id
            or touch.placement_id == entry.placement_id
        )
        for touch in touches
    )


async def tally_exclusive(session: AsyncSession, *, since: datetime, least_entries: int) -> list[Tally]:
    """Exclusive codes that are not flagged, with at least so many attributed entries since then. One statement,
    SYSTEM session."""
    rows = await session.execute(_TALLY, {"since": since, "least": least_entries})
    return [
        Tally(
            CouponId.of(row.id),
            BrandId.of(row.promoter_brand_id),
            None if row.promoter_id is None else PromoterId.of(row.promoter_id),
            row.entries,
            row.strangers,
            row.last_at,
        )
        for row in rows
    ]


async def flag_leaked(
    session: AsyncSession, coupon_ids: Sequence[CouponId], *, since: datetime
) -> set[CouponId]:
    """From ``since`` on these codes have no precedence; which of them that changes. A flag is only ever moved back in
    time, and a code that is nobody's exclusively has none. One statement, SYSTEM session."""
    flagged = await session.execute(_FLAG, {"ids": list(coupon_ids), "since": since})
    return {CouponId.of(each) for each in flagged.scalars()}


async def clear_leaked(session: AsyncSession, coupon_id: CouponId) -> bool:
    """The flag was wrong: later entries count as before, decisions that were made stand. SYSTEM session."""
    return (await session.execute(_CLEAR, {"id": coupon_id})).first() is not None
