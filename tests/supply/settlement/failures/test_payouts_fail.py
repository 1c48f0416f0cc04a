"""money.md §6, the cases of payouts, batches, closing and the roll-up: each test is named for its row."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import SupplierId
from core.pagination import PageRequest
from infra.db.session import Database
from infra.payments.stripe_gateway import StripeGateway
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, Leg
from supply.settlement import queries, service
from supply.settlement.parties import party_account
from supply.settlement.payouts import batch_of
from supply.settlement.queries import PayoutView
from supply.settlement.statements.cycles import Cycle
from tests.conftest import TestDatabase
from tests.factories.ledger import NOON, arriving, available, earning, horizon_passed, provider
from tests.fixtures.unanswered import killed_in_the_call, unanswered
from tests.paysim.conftest import SECRET_KEY, WEBHOOK_SECRET

_ATTEMPTS = text("SELECT attempt FROM payouts")
_COUNT = text("SELECT count(*) FROM payouts")
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
# The worker's sweep, in a process of its own that can be killed.
_WORKER = """
import asyncio, sys
from datetime import datetime
from core.clock import FixedClock
from infra.db.session import Database, make_engine
from infra.payments.stripe_gateway import StripeGateway
from supply.settlement import service
url, api, now, key, secret = sys.argv[1:]
async def main():
    payments = StripeGateway(secret_key=key, webhook_secret=secret, api_base=api)
    clock = FixedClock(datetime.fromisoformat(now))
    await service.send_payouts(Database(make_engine(url)), payments=payments, clock=clock)
asyncio.run(main())
"""


async def payee(db: Database, paysim: Any, amount_minor: int, *, fund: bool = True) -> tuple[str, str]:
    """(party, account): a supplier with dollars available, in the books and at the provider."""
    if fund:
        paysim.funded(amount_minor * 2)
    name, account = str(SupplierId.new()), paysim.account()["id"] if fund else "acct_none"
    async with db.unit_of_work(SYSTEM) as session:
        await service.register_payee(session, name, currency="USD", account_id=account, now=NOON)
        await posting.post(
            session, earning(f"e{name}", available(name, currency="USD"), amount_minor), now=NOON
        )
        await posting.post(session, arriving(f"a{name}", amount_minor, "USD"), now=NOON)
    return name, account


async def payouts(db: Database) -> list[PayoutView]:
    async with db.reading(SYSTEM) as session:
        return list((await queries.payouts_page(session, SYSTEM, PageRequest(100))).items)


def received(paysim: Any, account: str) -> list[int]:
    rows = paysim.get("/v1/transfers", destination=account).json()["data"]
    return [row["amount"] for row in rows]


async def settled_journals(db: Database) -> int:
    async with db.reading(SYSTEM) as session:
        entries = [
            await ledger.entries_of_journal(session, f"payout:{p.batch_id}:{p.payee_id}:{p.currency}:settle")
            for p in await payouts(db)
        ]
    return sum(1 for each in entries if each)


async def killed_worker(postgres: TestDatabase, paysim: Any, clock: FixedClock, *, transfer: int) -> None:
    """A sender that gets SIGKILL when the provider has executed so many transfers, before the last one's answer."""
    async with unanswered(paysim.url, "POST /v1/transfers", nth=transfer) as line:
        await killed_in_the_call(
            line, _WORKER, postgres.url(), line.url, clock.now().isoformat(), SECRET_KEY, WEBHOOK_SECRET
        )


async def carry_on(db: Database, gateway: StripeGateway, clock: FixedClock) -> None:
    """What the sweeps do over the next hours, until nothing is open."""
    for _ in range(12):
        clock.advance(timedelta(minutes=21))
        await service.send_payouts(db, payments=gateway, clock=clock)
        await service.resolve_payouts(db, payments=gateway, clock=clock)
        if all(view.ended_at is not None for view in await payouts(db)):
            return


async def test_crash_after_provider_call_before_commit(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway, postgres: TestDatabase
) -> None:
    _, account = await payee(db, paysim, 1_731)
    await service.make_batch(db, cycle="d1", clock=clock)

    await killed_worker(postgres, paysim, clock, transfer=1)

    assert received(paysim, account) == [1_731]
    assert [p.status.value for p in await payouts(db)] == ["sending"]
    assert await settled_journals(db) == 0
    await carry_on(db, gateway, clock)
    assert received(paysim, account) == [1_731]
    assert [p.status.value for p in await payouts(db)] == ["paid"]
    assert await settled_journals(db) == 1


async def test_payout_worker_killed_mid_batch(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway, postgres: TestDatabase
) -> None:
    payees = [await payee(db, paysim, 300 + number) for number in range(5)]
    accounts = [account for _, account in payees]
    await service.make_batch(db, cycle="d1", clock=clock)

    await killed_worker(postgres, paysim, clock, transfer=3)
    assert [len(received(paysim, account)) for account in accounts] == [1, 1, 1, 0, 0]
    assert sorted(p.status.value for p in await payouts(db)) == ["paid"] * 2 + ["sending"] * 3
    await carry_on(db, gateway, clock)

    assert [received(paysim, account) for account in accounts] == [[300], [301], [302], [303], [304]]
    assert {p.status.value for p in await payouts(db)} == {"paid"}
    assert await settled_journals(db) == 5


async def test_provider_500_stored_under_the_key(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway
) -> None:
    _, account = await payee(db, paysim, 700)
    await service.make_batch(db, cycle="d1", clock=clock)
    # Stored under the key before anything was executed: every try with it gets the same answer.
    paysim.fault("server_error", count=1, match={"path": "/v1/transfers", "verb": "POST"}, execute=False)
    await service.send_payouts(db, payments=gateway, clock=clock)
    clock.advance(timedelta(minutes=21))
    await service.resolve_payouts(db, payments=gateway, clock=clock)
    assert received(paysim, account) == []
    await carry_on(db, gateway, clock)

    assert received(paysim, account) == [700]
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(_ATTEMPTS)
        assert rows.scalar_one() >= 2  # a new key, …:a2, after look-ups that found nothing


async def test_key_older_than_24_h(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway
) -> None:
    _, executed = await payee(db, paysim, 900)
    _, lost = await payee(db, paysim, 901)
    await service.make_batch(db, cycle="d1", clock=clock)
    paysim.fault("drop_response", count=1, match={"path": "/v1/transfers"})
    paysim.fault("server_error", count=1, match={"path": "/v1/transfers", "verb": "POST"}, execute=False)
    once = StripeGateway(
        secret_key=SECRET_KEY, webhook_secret="-", api_base=paysim.url, max_network_retries=0
    )
    await service.send_payouts(db, payments=once, clock=clock)
    await once.close()
    clock.advance(timedelta(hours=25))
    paysim.admin("POST", "/webhooks/release")
    await service.resolve_payouts(db, payments=gateway, clock=clock)

    # Looked up first: what had happened is settled, what had not goes out under a new key.
    assert sorted([received(paysim, executed), received(paysim, lost)]) == [[900], [901]]
    assert {p.status.value for p in await payouts(db)} == {"paid"}


async def test_two_schedulers_start_the_same_batch(db: Database, clock: FixedClock, paysim: Any) -> None:
    names = [(await payee(db, paysim, 100 + number, fund=False))[0] for number in range(6)]
    batches = await asyncio.gather(*(service.make_batch(db, cycle="d1", clock=clock) for _ in range(2)))

    assert len(set(batches)) == 1
    assert sorted(p.payee_id for p in await payouts(db)) == sorted(names)
    async with db.reading(SYSTEM) as session:
        assert sum(b.in_payout_minor for b in await queries.party_balances(session, names)) == sum(
            range(100, 106)
        )


async def test_one_bad_journal_in_a_batch_of_200(db: Database, clock: FixedClock, paysim: Any) -> None:
    names = [(await payee(db, paysim, 50 + number, fund=False))[0] for number in range(200)]
    bad = names[77]
    async with db.unit_of_work(SYSTEM) as session:
        batch_id = await batch_of(session, "d1", now=clock.now())
        # Its key was used for something else: the ledger refuses it, and only it.
        legs = (Leg(provider("USD"), 1), Leg(available("x", currency="USD"), -1))
        await posting.post(
            session, Journal(f"payout:{batch_id}:{bad}:USD:reserve", "x", legs, NOON), now=NOON
        )
    await service.make_batch(db, cycle="d1", clock=clock)

    async with db.reading(SYSTEM) as session:
        balances = {b.payee_id: b for b in await queries.party_balances(session, names)}
        count = (await session.execute(_COUNT)).scalar_one()
    assert count == 199
    assert (balances[bad].available_minor, balances[bad].in_payout_minor) == (127, 0)
    assert sum(b.available_minor for b in balances.values()) == 127


async def test_period_close_during_load(db: Database, clock: FixedClock) -> None:
    """Everything posted is in exactly one statement; what came after the close is in the next one."""
    name = str(SupplierId.new())
    party = available(name, currency="USD")
    async with db.unit_of_work(SYSTEM) as session:
        await service.set_settlement_terms(session, name, currency="USD", now=NOON, cycle=Cycle.MONTHLY)
    clock.at = APRIL + timedelta(minutes=10)
    posted = 0

    async def load(poster: int) -> None:
        nonlocal posted
        for number in range(25):
            # A worker whose clock is behind: its entries are of March, some come after March was closed.
            async with db.unit_of_work(SYSTEM) as session:
                journal = earning(f"l{poster}:{number}", party, 10)
                await posting.post(session, journal, now=APRIL - timedelta(seconds=1))
                await asyncio.sleep(0.002)
            posted += 1

    async def close() -> None:
        for _ in range(10):
            await service.close_due_statements(db, clock=clock)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(load(poster) for poster in range(6)), close(), close())
    clock.at = APRIL + timedelta(days=40)
    await horizon_passed(db)
    while await service.close_due_statements(db, clock=clock):
        pass

    async with db.reading(SYSTEM) as session:
        page = await queries.statements_page(session, SYSTEM, PageRequest(10), payee_id=name)
        found = sorted(page.items, key=lambda view: view.number)
        documents = [await queries.statement_document(session, SYSTEM, each.id) for each in found]
        for each in found:
            stored, again = await service.recompute_statement(session, each.id)
            assert stored == again
    entries = [
        line["entry"]
        for document in documents
        for section in json.loads(document or "{}")["sections"]
        for line in section["lines"]
    ]
    assert len(entries) == len(set(entries)) == posted == 150
    assert found[-1].closing_minor == 1_500
    assert all(later.opening_minor == earlier.closing_minor for earlier, later in pairwise(found))


async def test_rollup_running_or_stopped_for_an_hour(db: Database, clock: FixedClock) -> None:
    """The platform-wide accounts and the statements are the same, whether the roll-up runs all the time or not."""
    names = [str(SupplierId.new()) for _ in range(3)]
    stop = asyncio.Event()

    async def roll() -> None:
        while not stop.is_set():
            await posting.roll_up(db)
            await asyncio.sleep(0.005)

    async def post(prefix: str) -> None:
        for number in range(60):
            name = names[number % 3]
            async with db.unit_of_work(SYSTEM) as session:
                await posting.post(
                    session, earning(f"{prefix}{number}", available(name, currency="USD"), 7), now=NOON
                )

    async def books() -> dict[Code, int]:
        async with db.reading(SYSTEM) as session:
            return {line.code: line.debit_minor for line in await ledger.trial_balance(session)}

    running = asyncio.create_task(roll())
    await asyncio.gather(post("a"), post("b"))
    while_rolling = await books()
    stop.set()
    await running
    clock.advance(timedelta(hours=1))
    await asyncio.gather(post("c"), post("d"))
    stopped = await books()
    await horizon_passed(db)
    await posting.roll_up(db)

    assert while_rolling == {Code.PROVIDER_PENDING: 120 * 7, Code.AVAILABLE: -120 * 7}
    assert stopped == await books() == {Code.PROVIDER_PENDING: 240 * 7, Code.AVAILABLE: -240 * 7}
    async with db.reading(SYSTEM) as session:
        assert await ledger.mismatched_balances(session) == 0
        balance = await ledger.balance(session, party_account(Code.AVAILABLE, names[0], "USD"))
    assert balance.amount_minor == 80 * 7
