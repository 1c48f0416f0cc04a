"""Who may read of a dispute, a return, a debt: the parties each its own, nobody else anything."""

from __future__ import annotations

from sqlalchemy import text

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.ids import BrandId, SupplierId, TenantId
from core.pagination import PageRequest
from infra.db.session import Database
from supply.settlement import policies, service
from supply.settlement.disputes import queries as disputes
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.evidence import give_evidence
from tests.factories.settlement import PAID_AT, Parties, dispute_of, line_of_o1, order_of

TABLES = (
    "disputes", "dispute_orders", "dispute_shares", "dispute_evidence", "settlement_policies", "recoveries",
    "write_offs", "returns", "return_lines",
)  # fmt: skip


async def counts(db: Database, actor: Actor) -> dict[str, int]:
    """Rows the actor sees of each table that has any for it."""
    found = {}
    async with db.reading(actor) as session:
        for table in TABLES:
            found[table] = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
    return {table: rows for table, rows in found.items() if rows}


async def test_everybody_sees_its_own_part_of_a_dispute(db: Database, clock: FixedClock) -> None:
    # One charge of two merchants' orders, 10,388 each; the bank takes 10,000.
    one, other = Parties(), Parties()
    clock.at = PAID_AT
    orders = [order_of(each, [line_of_o1(each)]) for each in (one, other)]
    async with db.unit_of_work(SYSTEM) as session:
        await service.open_splits(session, orders, clock=clock)
        await apply_dispute(
            session, dispute_of("ch_1", amount_minor=10_000), provider="stripe", now=clock.now()
        )
        await policies.set_policy(session, SYSTEM, policies.Absorption(1), clock=clock)
        merchant = Actor(ActorKind.BRAND, one.merchant, scopes=frozenset({"orders:write"}))
        await give_evidence(session, merchant, "du_1", {"customer_name": "A"}, clock=clock, final=False)

    def as_(kind: ActorKind, tenant: TenantId) -> Actor:
        return Actor(kind, tenant)

    assert await counts(db, as_(ActorKind.BRAND, one.merchant)) == {
        "disputes": 1, "dispute_orders": 1, "dispute_shares": 5, "dispute_evidence": 1,
    }  # fmt: skip
    assert await counts(db, as_(ActorKind.BRAND, other.merchant)) == {
        "disputes": 1, "dispute_orders": 1, "dispute_shares": 5,
    }  # fmt: skip
    assert await counts(db, as_(ActorKind.SUPPLIER, one.supplier)) == {"dispute_shares": 2}
    assert await counts(db, as_(ActorKind.BRAND, one.promoter_brand)) == {"dispute_shares": 2}
    assert await counts(db, as_(ActorKind.BRAND, BrandId.new())) == {}
    assert await counts(db, as_(ActorKind.SUPPLIER, SupplierId.new())) == {}
    assert (await counts(db, SYSTEM))["settlement_policies"] == 1

    for order, parties in zip(orders, (one, other), strict=True):
        mine = as_(ActorKind.BRAND, parties.merchant)
        async with db.reading(mine) as session:
            (view,) = (await disputes.disputes_page(session, mine, PageRequest(5))).items
        assert (view.amount_minor, view.orders) == (5_000, [order.order_id])
    async with db.reading(SYSTEM) as session:
        assert (await disputes.dispute(session, SYSTEM, "du_1")).amount_minor == 10_000
