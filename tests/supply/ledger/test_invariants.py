"""Random postings against a model of a few lines; the order of events and the roll-up change no balance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.actor import SYSTEM
from infra.db.session import Database, make_engine
from supply.ledger import queries, service
from supply.ledger.chart import Code
from supply.ledger.errors import JournalKeyReused, Overdraft, Unbalanced
from supply.ledger.journal import AccountKey, Journal, Leg, merged
from tests.factories.ledger import NOON, horizon_passed

Legs = tuple[Leg, ...]
CURRENCIES = ("CNY", "USD")


def accounts_of(world: str) -> list[AccountKey]:
    named = [(Code.PROVIDER_PENDING, f"psp:{world}"), (Code.TAX, f"tax:{world}")]
    named += [(code, f"party:{world}{name}") for code in (Code.PENDING, Code.RECEIVABLE) for name in "ab"]
    return [AccountKey(code, owner, currency) for code, owner in named for currency in CURRENCIES]


@dataclass
class Model:
    """The ledger as one reads it in a book: what it does with a journal, and what accounts hold then."""

    held: dict[AccountKey, int] = field(default_factory=dict)
    known: dict[str, tuple[str, Legs]] = field(default_factory=dict)

    def post(self, journal: Journal) -> object:
        legs = merged(journal.legs)
        totals: dict[str, int] = {}
        for leg in legs:
            totals[leg.account.currency] = totals.get(leg.account.currency, 0) + leg.amount_minor
        if not legs or any(totals.values()):
            return Unbalanced
        if journal.key in self.known:
            return "replayed" if self.known[journal.key] == (journal.kind, legs) else JournalKeyReused
        after = {leg.account: self.held.get(leg.account, 0) + leg.amount_minor for leg in legs}
        if any(account.code.strict and after[account] * account.code.side < 0 for account in after):
            return Overdraft
        self.held |= after
        self.known[journal.key] = (journal.kind, legs)
        return "posted"


def seen(outcome: service.Outcome) -> object:
    return type(outcome.error) if outcome.error else "replayed" if outcome.replayed else "posted"


@st.composite
def journals(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """``(key, [(account, amount)])``; most balance, some do not; few keys, so that they come again."""
    key = draw(st.integers(0, 11))
    currency = draw(st.integers(0, 1))
    legs = [
        (2 * account + currency, amount)
        for account, amount in draw(st.lists(st.tuples(st.integers(0, 5), st.integers(-90, 90)), max_size=3))
    ]
    if draw(st.integers(0, 9)):
        legs.append((2 * draw(st.integers(0, 5)) + currency, -sum(amount for _, amount in legs)))
    if not draw(st.integers(0, 9)):
        legs.append((draw(st.integers(0, 11)), draw(st.integers(-5, 5))))
    return key, legs


# How a group is posted: as one batch, or each by itself.
groups = st.lists(
    st.tuples(st.booleans(), st.lists(journals(), min_size=1, max_size=7)), min_size=1, max_size=4
)


def checked(db: Database, examples: int, given_by: st.SearchStrategy[object]) -> Callable[..., None]:
    """Runs a coroutine for every example on a connection of its own loop."""

    def decorate(story: Callable[[Database, object], Awaitable[None]]) -> None:
        with asyncio.Runner() as runner:
            fresh = Database(make_engine(db.engine.url.render_as_string(hide_password=False), pool_size=2))

            @settings(max_examples=examples, suppress_health_check=list(HealthCheck), derandomize=True)
            @given(given_by)
            def run(example: object) -> None:
                runner.run(story(fresh, example))  # type: ignore[arg-type]

            run()
            runner.run(fresh.close())

    return decorate


async def post_alone(db: Database, journal: Journal) -> object:
    """In a transaction of its own; what became of it."""
    try:
        async with db.unit_of_work(SYSTEM) as session:
            before = bool(await queries.entries_of_journal(session, journal.key))
            await service.post(session, journal, now=NOON)
    except (Overdraft, Unbalanced, JournalKeyReused) as refused:
        return type(refused)
    return "replayed" if before else "posted"


def test_the_database_accepts_and_refuses_as_the_model_does(db: Database) -> None:
    @checked(db, 80, groups)
    async def agrees(
        fresh: Database, drawn: list[tuple[bool, list[tuple[int, list[tuple[int, int]]]]]]
    ) -> None:
        world = uuid4().hex
        accounts, model = accounts_of(world), Model()
        for together, group in drawn:
            batch = [
                Journal(f"{world}-{key}", "x", tuple(Leg(accounts[a], amount) for a, amount in legs), NOON)
                for key, legs in group
            ]
            expected = [model.post(journal) for journal in batch]
            if together:
                async with fresh.unit_of_work(SYSTEM) as session:
                    found = [seen(o) for o in await service.post_many(session, batch, now=NOON)]
            else:
                found = [await post_alone(fresh, journal) for journal in batch]
            assert found == expected
        async with fresh.reading(SYSTEM) as session:
            for account in accounts:
                held = await queries.balance(session, account)
                assert held.amount_minor == model.held.get(account, 0) * account.code.side
            entries = [e for key in model.known for e in await queries.entries_of_journal(session, key)]
            assert len(entries) == sum(len(legs) for _, legs in model.known.values())
            assert await queries.unbalanced_journals(session) == 0
            assert await queries.mismatched_balances(session) == 0


def test_events_in_any_order_and_repeated_end_in_the_same_balances(db: Database) -> None:
    """What is refused for lack of funds is parked and tried again, as a webhook that came too early is."""
    world = uuid4().hex
    psp, tax = (
        AccountKey(c, f"{n}:{world}", "CNY") for c, n in ((Code.PROVIDER_PENDING, "psp"), (Code.TAX, "tax"))
    )

    def story(name: str) -> list[Journal]:
        def party(code: Code) -> AccountKey:
            return AccountKey(code, f"party:{world}{name}", "CNY")

        moves = {
            "capture": [(psp, 1000), (party(Code.PENDING), -940), (tax, -60)],
            "fee": [(psp, -29), (party(Code.PENDING), 29)],
            "release": [(party(Code.PENDING), 900), (party(Code.AVAILABLE), -900)],
            "reserve": [(party(Code.AVAILABLE), 850), (party(Code.IN_PAYOUT), -850)],
            "settle": [(party(Code.IN_PAYOUT), 850), (psp, -850)],
        }
        return [
            Journal(f"{world}{name}:{kind}", kind, tuple(Leg(a, m) for a, m in legs), NOON)
            for kind, legs in moves.items()
        ]

    indexes = st.lists(st.integers(0, 4), max_size=4).flatmap(
        lambda extra: st.permutations([*range(5), *extra])
    )

    @checked(db, 40, indexes)
    async def same(fresh: Database, order: list[int]) -> None:
        name = uuid4().hex
        events = story(name)
        waiting = [events[i] for i in order]
        async with fresh.unit_of_work(SYSTEM) as session:
            while waiting:
                outcomes = await service.post_many(session, waiting, now=NOON)
                parked = [j for j, o in zip(waiting, outcomes, strict=True) if isinstance(o.error, Overdraft)]
                assert all(o.error is None or isinstance(o.error, Overdraft) for o in outcomes)
                assert len(parked) < len(waiting)
                waiting = parked
            held = {
                b.code: b.balance_minor for b in await queries.balances_of(session, [f"party:{world}{name}"])
            }
        # 940 - 29 - 900; 900 - 850; 850 - 850
        assert held == {Code.PENDING: 11, Code.AVAILABLE: 50, Code.IN_PAYOUT: 0}


def test_rolling_up_or_not_gives_the_same_balances(db: Database) -> None:
    @checked(db, 25, st.lists(st.one_of(st.integers(-400, 400), st.none()), min_size=1, max_size=12))
    async def same(fresh: Database, steps: list[int | None]) -> None:
        """A number is posted; None rolls up, in the second run only."""
        runs = [await balances_after_each(fresh, steps, roll_up=roll_up) for roll_up in (False, True)]
        assert runs[0] == runs[1] == [sum(step or 0 for step in steps[: n + 1]) for n in range(len(steps))]


async def balances_after_each(db: Database, steps: list[int | None], *, roll_up: bool) -> list[int]:
    world, held = uuid4().hex, []
    debited, credited = (AccountKey(c, f"x:{world}", "CNY") for c in (Code.PROVIDER_PENDING, Code.TAX))
    for number, step in enumerate(steps):
        if step:
            legs = (Leg(debited, step), Leg(credited, -step))
            async with db.unit_of_work(SYSTEM) as session:
                await service.post(session, Journal(f"{world}{number}", "x", legs, NOON), now=NOON)
        elif step is None and roll_up:
            await horizon_passed(db)
            await service.roll_up(db)
        async with db.reading(SYSTEM) as session:
            held.append((await queries.balance(session, debited)).amount_minor)
            assert (await queries.balance(session, credited)).amount_minor == held[-1]
            assert await queries.mismatched_balances(session) == 0
    return held
