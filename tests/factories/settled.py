"""Order O1 further along its life: delivered, released, paid out."""

from __future__ import annotations

from datetime import timedelta

from core.actor import SYSTEM
from core.clock import FixedClock
from core.pagination import PageRequest
from infra.db.session import Database
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.capture import CapturedOrder
from tests.factories.settlement import PAID_AT, Parties, captured_o1


def shares(parties: Parties, code: Code, *amounts: int) -> set[tuple[Code, str, int]]:
    """Debits of merchant, supplier, promoter brand, individual on one account each; zeros left out."""
    owners = (parties.merchant, parties.supplier, parties.promoter_brand, parties.individual)
    return {(code, f"party:{owner}", amount) for owner, amount in zip(owners, amounts, strict=True) if amount}


async def paid_out_o1(db: Database, clock: FixedClock, parties: Parties) -> CapturedOrder:
    """O1 released, reserved for payout and transferred: the parties hold nothing."""
    async with db.unit_of_work(SYSTEM) as session:
        order = await captured_o1(session, clock, parties)
        for party in (parties.merchant, parties.supplier, parties.promoter_brand, parties.individual):
            await service.register_payee(
                session, str(party), currency="CNY", account_id=f"acct_{party}", now=PAID_AT
            )
    clock.at = PAID_AT + timedelta(days=45)
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="c1", clock=clock)
    async with db.unit_of_work(SYSTEM) as session:
        for payout in (await queries.payouts_page(session, SYSTEM, PageRequest(10))).items:
            await service.settle_payout(session, payout.id, f"tr_{payout.payee_id}", now=clock.now())
    return order
