"""What the database says after the run: every number of the report. Reads only, as the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import BrandId, CheckoutId, DecisionId, OrderId, PromoterId, SupplierId
from infra.db.session import Database
from marketplace.promotion.decisions.verifying import stored_decisions, verify
from supply.ledger import queries as ledger
from supply.settlement import queries as settlement

Row = dict[str, Any]

_NAMES = text("SELECT id, name, kind FROM tenants")
_PROMOTERS = text("SELECT p.id, p.name, t.name AS brand FROM promoters p JOIN tenants t ON t.id = p.brand_id")
_CHECKOUTS = text("SELECT status, count(*) AS n FROM checkouts GROUP BY status ORDER BY status")
_SALES = text("""
SELECT t.name AS brand, o.currency, count(*) AS orders, sum(o.goods_minor)::bigint AS goods_minor,
    sum(o.shipping_minor)::bigint AS shipping_minor, sum(o.total_minor)::bigint AS total_minor,
    sum(o.refunded_minor)::bigint AS refunded_minor,
    count(*) FILTER (WHERE o.seller_id <> o.merchant_id) AS sold_by_partners
FROM orders o JOIN tenants t ON t.id = o.merchant_id
WHERE o.payment_status IN ('paid', 'partially_refunded', 'refunded')
GROUP BY t.name, o.currency ORDER BY o.currency, total_minor DESC
""")
_COMMISSIONS = text("""
SELECT s.payee, s.role, l.currency, count(DISTINCT l.order_id) AS orders,
    sum(s.earned_minor)::bigint AS earned_minor, sum(s.reversed_minor)::bigint AS reversed_minor
FROM commission_shares s JOIN commission_lines l ON l.id = s.commission_line_id
GROUP BY s.payee, s.role, l.currency ORDER BY l.currency, earned_minor DESC
""")
_ATTRIBUTION = text("""
SELECT (SELECT count(*) FROM touches) AS clicks,
    (SELECT count(*) FROM attribution_decisions) AS decisions,
    (SELECT count(DISTINCT order_id) FROM commission_lines) AS orders_with_commission,
    (SELECT count(*) FROM touches WHERE kind = 'scan') AS scans,
    (SELECT count(*) FROM coupon_entries) AS codes_entered,
    (SELECT count(DISTINCT l.order_id) FROM commission_lines l JOIN coupon_entries e ON e.touch_id = l.touch_id)
        AS orders_by_code
""")
_PARTNERS = text("""
SELECT DISTINCT ON (advertiser_id, promoter_brand_id) order_id, advertiser_id, promoter_brand_id
FROM commission_lines ORDER BY advertiser_id, promoter_brand_id, order_id
""")
_ROUTING = text("""
SELECT r.currency, count(*) AS runs, sum(r.cost_minor)::bigint AS cost_minor,
    sum(r.cheapest_per_line_minor)::bigint AS cheapest_per_line_minor,
    count(*) FILTER (WHERE r.cost_minor < r.cheapest_per_line_minor) AS better,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY r.duration_us)::bigint AS p50_us
FROM routing_runs r JOIN orders o ON o.id = r.order_id
WHERE r.mode = 'checkout' AND r.cheapest_per_line_minor IS NOT NULL
GROUP BY r.currency ORDER BY r.currency
""")
_REROUTES = text("SELECT count(*) FROM routing_runs WHERE mode = 'reroute'")
_FULFILLMENT = text("""
SELECT t.name AS supplier, count(*) AS orders,
    count(*) FILTER (WHERE f.status IN ('DELIVERED', 'CLOSED')) AS delivered,
    count(*) FILTER (WHERE f.request_status = 'REJECTED') AS rejected,
    count(*) FILTER (WHERE f.request_status = 'CLOSED' AND f.status <> 'CLOSED') AS timed_out,
    count(*) FILTER (WHERE f.shipped_at > f.ship_by) AS shipped_late,
    count(*) FILTER (WHERE f.attempt_no > 1) AS taken_over
FROM fulfillment_orders f JOIN tenants t ON t.id = f.supplier_id
WHERE f.submitted_at IS NOT NULL GROUP BY t.name ORDER BY orders DESC
""")
_REFUNDS = text("""
SELECT r.status, r.reason, r.currency, count(*) AS n, sum(r.amount_minor)::bigint AS amount_minor
FROM refunds r GROUP BY r.status, r.reason, r.currency ORDER BY r.currency, r.reason, r.status
""")
_PARTIES = text("""
SELECT owner, currency,
    coalesce(sum(balance_minor) FILTER (WHERE code = 2000), 0)::bigint AS pending_minor,
    coalesce(sum(balance_minor) FILTER (WHERE code = 2010), 0)::bigint AS available_minor,
    coalesce(sum(balance_minor) FILTER (WHERE code = 2020), 0)::bigint AS in_payout_minor,
    coalesce(sum(balance_minor) FILTER (WHERE code = 1100), 0)::bigint AS owes_minor
FROM ledger_balances_now WHERE owner LIKE 'party:%' GROUP BY owner, currency
""")
_PAID_OUT = text("""
SELECT payee_id, currency, count(*) AS payouts, sum(amount_minor - reversed_minor)::bigint AS paid_minor
FROM payouts WHERE status = 'paid' GROUP BY payee_id, currency
""")
_PAYOUTS = text("""
SELECT status, currency, count(*) AS n, sum(amount_minor)::bigint AS amount_minor FROM payouts
GROUP BY status, currency ORDER BY currency, status
""")
_PLATFORM = text("""
SELECT code, currency, sum(balance_minor)::bigint AS balance_minor FROM ledger_balances_now
WHERE owner NOT LIKE 'party:%' GROUP BY code, currency HAVING sum(balance_minor) <> 0 ORDER BY currency, code
""")
_PAID_ORDERS = text("""
SELECT o.id, o.number, o.currency, o.total_minor, o.refunded_minor FROM orders o
WHERE o.payment_status IN ('paid', 'partially_refunded', 'refunded') ORDER BY o.id
""")
_UNSETTLED = text("""
SELECT (SELECT count(*) FROM refunds WHERE status = 'pending') AS refunds_pending,
    (SELECT count(*) FROM payouts WHERE status IN ('reserved', 'sending')) AS payouts_open,
    (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS messages_waiting,
    (SELECT count(*) FROM split_parts WHERE pending_minor > 0) AS shares_still_pending
""")
_FAILED = text(
    "SELECT handler, error, count(*) AS n FROM failed_messages GROUP BY handler, error ORDER BY n DESC"
)
_WEBHOOKS = text("SELECT state, count(*) AS n FROM webhook_deliveries GROUP BY state ORDER BY state")
_PLACED = text("""
SELECT c.id, c.status, count(o.id) AS orders FROM checkouts c LEFT JOIN orders o ON o.checkout_id = c.id
WHERE c.id = ANY(:ids) GROUP BY c.id
""")
_PAYMENTS = text("""
SELECT count(*) AS captured, count(DISTINCT charge_id) AS charges FROM payments WHERE captured_minor > 0
""")
_STOCK = text("SELECT count(*) FROM stock_levels WHERE NOT (0 <= reserved AND reserved <= on_hand)")


@dataclass(frozen=True, slots=True)
class Facts:
    """Amounts in minor units. ``identities`` has one row per paid order."""

    checkouts: list[Row]
    sales: list[Row]
    commissions: list[Row]
    attribution: Row
    partners: list[Row]
    """An order of each pair of brands that sold for one another."""
    not_the_same: list[str]
    """What deciding every order again gave otherwise than it is stored."""
    routing: list[Row]
    reroutes: int
    fulfillment: list[Row]
    refunds: list[Row]
    parties: list[Row]
    payouts: list[Row]
    platform: list[Row]
    identities: list[Row]
    trial_balance: list[Row]
    unbalanced_journals: int
    mismatched_balances: int
    unsettled: Row
    failed_messages: list[Row]
    webhooks: list[Row]
    acknowledged: list[Row]
    payments: Row
    impossible_stock: int
    names: dict[str, str]
    """Of brands, suppliers and promoters, by their id."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def gather(db: Database, acknowledged: Sequence[str]) -> Facts:
    """``acknowledged``: the checkouts whose placing the driver saw confirmed."""
    async with db.reading(SYSTEM) as session:
        names = await _names(session)
        placed = await _rows(session, _PLACED, ids=[CheckoutId.parse(one) for one in acknowledged])
        return Facts(
            checkouts=await _rows(session, _CHECKOUTS),
            sales=await _rows(session, _SALES),
            commissions=[
                {**row, "payee": names.get(row["payee"], row["payee"])}
                for row in await _rows(session, _COMMISSIONS)
            ],
            attribution=await _row(session, _ATTRIBUTION),
            partners=[
                {
                    "order_id": str(OrderId.of(row["order_id"])),
                    "advertiser": str(BrandId.of(row["advertiser_id"])),
                    "promoter": str(BrandId.of(row["promoter_brand_id"])),
                }
                for row in await _rows(session, _PARTNERS)
            ],
            not_the_same=await _not_the_same(session),
            routing=await _rows(session, _ROUTING),
            reroutes=await _count(session, _REROUTES),
            fulfillment=await _rows(session, _FULFILLMENT),
            refunds=await _rows(session, _REFUNDS),
            parties=await _parties(session, names),
            payouts=await _rows(session, _PAYOUTS),
            platform=await _rows(session, _PLATFORM),
            identities=await _identities(session),
            trial_balance=[asdict(line) for line in await ledger.trial_balance(session)],
            unbalanced_journals=await ledger.unbalanced_journals(session),
            mismatched_balances=await ledger.mismatched_balances(session),
            unsettled=await _row(session, _UNSETTLED),
            failed_messages=await _rows(session, _FAILED),
            webhooks=await _rows(session, _WEBHOOKS),
            acknowledged=[{**row, "id": str(CheckoutId.of(row["id"]))} for row in placed],
            payments=await _row(session, _PAYMENTS),
            impossible_stock=await _count(session, _STOCK),
            names=names,
        )


async def _not_the_same(session: AsyncSession) -> list[str]:
    """Every stored decision decided again, as `lianyu verify attribution` does."""
    found: list[str] = []
    after = DecisionId(int=0)
    while page := await stored_decisions(session, after=after):
        found += [f"{d.order_id} {d.what}" for stored in page for d in verify(stored).differences]
        after = DecisionId.parse(page[-1].decision_id)
    return found


async def _rows(session: AsyncSession, query: Any, **given: Any) -> list[Row]:
    return [dict(row._mapping) for row in await session.execute(query, given)]


async def _row(session: AsyncSession, query: Any) -> Row:
    return (await _rows(session, query))[0]


async def _count(session: AsyncSession, query: Any) -> int:
    return int((await session.execute(query)).scalar_one())


async def _names(session: AsyncSession) -> dict[str, str]:
    """Names by the outer form of the party's id."""
    kinds = {"brand": BrandId, "supplier": SupplierId}
    names = {
        str(kinds[row["kind"]].of(UUID(str(row["id"])))): str(row["name"])
        for row in await _rows(session, _NAMES)
        if row["kind"] in kinds
    }
    for row in await _rows(session, _PROMOTERS):
        names[str(PromoterId.of(row["id"]))] = f"{row['name']} ({row['brand']})"
    return names


async def _parties(session: AsyncSession, names: dict[str, str]) -> list[Row]:
    """What each party got, may still get and owes."""
    paid = {(row["payee_id"], row["currency"]): row for row in await _rows(session, _PAID_OUT)}
    parties = []
    for row in await _rows(session, _PARTIES):
        party = row.pop("owner").removeprefix("party:")
        payouts = paid.get((party, row["currency"]), {"payouts": 0, "paid_minor": 0})
        role = {"brd": "brand", "sup": "supplier"}.get(party.partition("_")[0], "promoter")
        parties.append(
            {
                "party": names.get(party, party), "role": role, **row,
                "payouts": payouts["payouts"], "paid_minor": payouts["paid_minor"],
            }
        )  # fmt: skip
    return sorted(parties, key=lambda row: (row["currency"], row["role"], -row["paid_minor"]))


async def _identities(session: AsyncSession) -> list[Row]:
    """Settlement's own judgement of every paid order, and whether the order itself says the same sums."""
    broken = set(await settlement.broken_identities(session))
    found = []
    for row in await _rows(session, _PAID_ORDERS):
        order_id = OrderId.of(row["id"])
        identity = await settlement.order_identity(session, order_id)
        agrees = (identity.customer_paid_minor, identity.refunded_minor) == (
            row["total_minor"],
            row["refunded_minor"],
        )
        holds = identity.holds and agrees and order_id not in broken
        found.append({**asdict(identity), "order_id": str(order_id), "number": row["number"], "holds": holds})
    return found
