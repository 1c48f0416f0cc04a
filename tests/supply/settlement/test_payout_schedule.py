"""A party is paid after its statement: what it says is available, less reserve and debts, never below the minimum."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import SupplierId
from core.pagination import PageRequest
from infra.db.session import Database
from infra.payments.stripe_gateway import StripeGateway
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.bank_payouts import bank_payouts_page, refresh_bank_payout
from supply.settlement.errors import BadSettlementTerms
from supply.settlement.parties import party_account
from supply.settlement.payout_sending import AWAITING_FUNDS
from tests.factories.ledger import NOON, arriving, available, earning, horizon_passed, moving, pending

APRIL, MAY = datetime(2026, 4, 1, 1, tzinfo=UTC), datetime(2026, 5, 1, 1, tzinfo=UTC)


async def party(
    db: Database,
    amount_minor: int,
    *,
    account_id: str | None = "acct_1",
    minimum_minor: int = 0,
    released: bool = False,
) -> str:
    """A supplier that has ``amount_minor`` available since March."""
    name = str(SupplierId.new())
    async with db.unit_of_work(SYSTEM) as session:
        own, waiting = available(name, currency="USD"), pending(name, currency="USD")
        await posting.post(session, earning(f"e{name}", waiting if released else own, amount_minor), now=NOON)
        if released:
            await posting.post(session, moving(f"r{name}", waiting, own, amount_minor), now=NOON)
        if account_id is not None:
            await service.register_payee(
                session, name, currency="USD", account_id=account_id, now=NOON, minimum_minor=minimum_minor
            )
    return name


async def close_and_pay(db: Database, clock: FixedClock, at: datetime) -> None:
    clock.at = at
    await horizon_passed(db)
    while await service.close_due_statements(db, clock=clock):
        pass
    while await service.pay_statements(db, clock=clock):
        pass


async def amounts(db: Database, name: str) -> list[int]:
    async with db.reading(SYSTEM) as session:
        page = await queries.payouts_page(session, SYSTEM, PageRequest(50), payee_id=name)
    return [view.amount_minor for view in page.items]


async def has(db: Database, name: str, code: Code) -> int:
    async with db.reading(SYSTEM) as session:
        return (await ledger.balance(session, party_account(code, name, "USD"))).amount_minor


async def test_a_closed_statement_is_paid_once(db: Database, clock: FixedClock) -> None:
    name = await party(db, 1_731)
    await close_and_pay(db, clock, APRIL)
    await close_and_pay(db, clock, APRIL + timedelta(hours=1))

    assert await amounts(db, name) == [1_731]
    assert (await has(db, name, Code.IN_PAYOUT), await has(db, name, Code.AVAILABLE)) == (1_731, 0)


async def test_what_came_after_the_statement_waits_for_the_next(db: Database, clock: FixedClock) -> None:
    name = await party(db, 1_000)
    async with db.unit_of_work(SYSTEM) as session:
        later = earning("later", available(name, currency="USD"), 250)
        await posting.post(session, later, now=APRIL - timedelta(minutes=30))
    await close_and_pay(db, clock, APRIL)
    assert await amounts(db, name) == [1_000]

    await close_and_pay(db, clock, MAY)
    assert await amounts(db, name) == [250, 1_000]


async def test_a_party_that_registers_late_is_paid_what_its_last_statement_says(
    db: Database, clock: FixedClock
) -> None:
    name = await party(db, 800, account_id=None)
    await close_and_pay(db, clock, APRIL)
    assert await amounts(db, name) == []
    async with db.unit_of_work(SYSTEM) as session:
        await service.register_payee(session, name, currency="USD", account_id="acct_1", now=clock.now())
    await close_and_pay(db, clock, APRIL + timedelta(days=3))

    assert await amounts(db, name) == [800]


async def test_below_the_minimum_the_next_statement_pays_both(db: Database, clock: FixedClock) -> None:
    name = await party(db, 900, minimum_minor=1_000)
    await close_and_pay(db, clock, APRIL)
    assert await amounts(db, name) == []
    async with db.unit_of_work(SYSTEM) as session:
        more = earning("more", available(name, currency="USD"), 200)
        await posting.post(session, more, now=APRIL)
    await close_and_pay(db, clock, MAY)

    assert await amounts(db, name) == [1_100]


async def test_a_negative_balance_is_carried_and_paid_off_first(db: Database, clock: FixedClock) -> None:
    name = await party(db, 0 + 300)
    async with db.unit_of_work(SYSTEM) as session:
        owed = party_account(Code.RECEIVABLE, name, "USD")
        # It owes 500 and has 300: cps.md R8, net −200 is carried.
        await posting.post(session, earning("owed", owed, -500), now=NOON)
    await close_and_pay(db, clock, APRIL)
    assert await amounts(db, name) == []
    assert await has(db, name, Code.RECEIVABLE) == 200
    async with db.unit_of_work(SYSTEM) as session:
        await posting.post(session, earning("m", available(name, currency="USD"), 1_200), now=APRIL)
    await close_and_pay(db, clock, MAY)

    assert await amounts(db, name) == [1_000]
    assert await has(db, name, Code.RECEIVABLE) == 0


async def test_the_balance_of_four_periods_is_the_contracts(db: Database, clock: FixedClock) -> None:
    """shared/vectors/cps.json, "refund after payout carries a negative balance"; minimum payout 5,000."""
    name = await party(db, 12_000, minimum_minor=5_000)
    periods = [(0, 0), (3_000, 8_000), (7_550, 0), (4_000, 0)]  # the first 12,000 are there already
    carried = []
    for number, (earned, clawed_back) in enumerate(periods):
        at = datetime(2026, 4 + number, 1, 1, tzinfo=UTC)
        async with db.unit_of_work(SYSTEM) as session:
            own, owed = available(name, currency="USD"), party_account(Code.RECEIVABLE, name, "USD")
            posted = at - timedelta(days=3)
            if earned:
                await posting.post(session, earning(f"e{number}", own, earned), now=posted)
            if clawed_back:
                await posting.post(session, earning(f"c{number}", owed, -clawed_back), now=posted)
        await close_and_pay(db, clock, at)
        carried.append(await has(db, name, Code.AVAILABLE) - await has(db, name, Code.RECEIVABLE))

    assert list(reversed(await amounts(db, name))) == [12_000, 6_550]
    assert carried == [0, -5_000, 2_550, 0]


async def test_a_rolling_reserve_stays_and_is_paid_when_it_is_old_enough(
    db: Database, clock: FixedClock
) -> None:
    name = await party(db, 10_000, released=True)
    async with db.unit_of_work(SYSTEM) as session:
        await service.set_settlement_terms(
            session, name, currency="USD", now=NOON, reserve_ppm=100_000, reserve_days=45
        )
    await close_and_pay(db, clock, APRIL)
    assert await amounts(db, name) == [9_000]
    assert await has(db, name, Code.AVAILABLE) == 1_000

    async with db.unit_of_work(SYSTEM) as session:  # something must move for May's statement
        await posting.post(session, earning("m", available(name, currency="USD"), 5), now=APRIL)
    # The 2nd of March is 59 days before May: nothing was released in the last 45.
    await close_and_pay(db, clock, MAY)
    assert await amounts(db, name) == [1_005, 9_000]


async def test_a_reserve_is_there_for_what_the_party_owes(db: Database, clock: FixedClock) -> None:
    name = await party(db, 10_000, released=True)
    async with db.unit_of_work(SYSTEM) as session:
        await service.set_settlement_terms(
            session, name, currency="USD", now=NOON, reserve_ppm=100_000, reserve_days=180
        )
    await close_and_pay(db, clock, APRIL)
    async with db.unit_of_work(SYSTEM) as session:
        owed = party_account(Code.RECEIVABLE, name, "USD")
        await posting.post(session, earning("owed", owed, -400), now=APRIL)
    await close_and_pay(db, clock, MAY)

    assert await has(db, name, Code.RECEIVABLE) == 0
    assert await has(db, name, Code.AVAILABLE) == 600
    assert await amounts(db, name) == [9_000]


async def test_many_schedulers_pay_each_statement_once(db: Database, clock: FixedClock) -> None:
    names = [await party(db, 100 + number) for number in range(5)]
    clock.at = APRIL
    await horizon_passed(db)
    await service.close_due_statements(db, clock=clock)
    await asyncio.gather(*(service.pay_statements(db, clock=clock) for _ in range(4)))
    while await service.pay_statements(db, clock=clock):
        pass

    assert [await amounts(db, name) for name in names] == [[100], [101], [102], [103], [104]]


async def test_payouts_wait_until_the_books_have_the_money(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway
) -> None:
    paysim.funded(10_000)
    small = await party(db, 400, account_id=paysim.account()["id"])
    large = await party(db, 900, account_id=paysim.account()["id"])
    await close_and_pay(db, clock, APRIL)
    async with db.unit_of_work(SYSTEM) as session:
        await posting.post(session, arriving("some", 500, "USD"), now=APRIL)
    assert await service.send_payouts(db, payments=gateway, clock=clock) == 1

    async with db.reading(SYSTEM) as session:
        page = await queries.payouts_page(session, SYSTEM, PageRequest(10))
    found = {view.payee_id: (view.status.value, view.failure) for view in page.items}
    assert found == {small: ("paid", None), large: ("reserved", AWAITING_FUNDS)}

    async with db.unit_of_work(SYSTEM) as session:
        await posting.post(session, arriving("rest", 800, "USD"), now=APRIL)
    clock.advance(timedelta(minutes=6))
    assert await service.send_payouts(db, payments=gateway, clock=clock) == 1
    assert await has(db, large, Code.IN_PAYOUT) == 0


async def test_a_bank_payout_that_failed_is_a_row_of_the_party(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway
) -> None:
    account = paysim.account()["id"]
    name = await party(db, 700, account_id=account)
    paysim.funded(2_000)
    async with db.unit_of_work(SYSTEM) as session:
        await posting.post(session, arriving("here", 700, "USD"), now=NOON)
    await close_and_pay(db, clock, APRIL)
    await service.send_payouts(db, payments=gateway, clock=clock)
    paysim.fault("payout_failure", count=1)
    payout = await gateway.create_payout(amount_minor=700, currency="USD", key="bank", account=account)
    await refresh_bank_payout(db, payout.id, account_id=account, payments=gateway, clock=clock)

    async with db.reading(SYSTEM) as session:
        (row,) = (await bank_payouts_page(session, SYSTEM, PageRequest(5))).items
    assert (row.payee_id, row.amount_minor) == (name, 700)
    assert row.status in ("pending", "in_transit", "failed")


@pytest.mark.parametrize("parts", [(1_000_001, 5), (5, 400)])
async def test_terms_out_of_bounds_are_refused(db: Database, parts: tuple[int, int]) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        with pytest.raises(BadSettlementTerms):
            await service.set_settlement_terms(
                session, "sup_x", currency="USD", now=NOON, reserve_ppm=parts[0], reserve_days=parts[1]
            )
