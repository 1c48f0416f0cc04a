"""Random postings against a model that is five lines long."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.actor import SYSTEM
from infra.db.session import Database, make_engine
from supply.ledger import queries, service
from supply.ledger.journal import AccountKey, Journal, Leg
from tests.factories.ledger import NOON, available, pending, provider

ACCOUNTS = [provider(), pending("a"), available("a"), pending("b"), available("b")]
legs = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(-300, 300)), min_size=1, max_size=4)
batches = st.lists(st.lists(legs, min_size=1, max_size=6), min_size=1, max_size=4)


def model_accepts(held: dict[AccountKey, int], moves: dict[AccountKey, int]) -> bool:
    after = {account: held.get(account, 0) + amount for account, amount in moves.items()}
    if sum(moves.values()) or not moves or any(a.code.strict and after[a] * a.code.side < 0 for a in after):
        return False
    held.update(after)
    return True


def test_the_database_accepts_and_refuses_as_the_model_does(db: Database) -> None:
    loop = asyncio.new_event_loop()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(batches)
    def run(batches: list[list[list[tuple[AccountKey, int]]]]) -> None:
        loop.run_until_complete(agrees(batches))

    async def agrees(batches: list[list[list[tuple[AccountKey, int]]]]) -> None:
        fresh = Database(make_engine(db.engine.url.render_as_string(hide_password=False), pool_size=1))
        world = uuid4().hex
        held: dict[AccountKey, int] = {}
        async with fresh.reading(SYSTEM) as session:
            for batch in batches:
                journals, expected = [], []
                for drawn in batch:
                    # The last leg takes the rest, except now and then, so that most journals balance.
                    rest = sum(amount for _, amount in drawn)
                    if rest % 7:
                        drawn = [*drawn, (ACCOUNTS[rest % 5], -rest)]
                    moves: dict[AccountKey, int] = {}
                    for account, amount in drawn:
                        moves[account] = moves.get(account, 0) + amount
                    moves = {account: amount for account, amount in moves.items() if amount}
                    expected.append(model_accepts(held, moves))
                    key = f"{world}-{len(expected)}-{id(batch)}"
                    journals.append(Journal(key, "x", tuple(Leg(a, m) for a, m in moves.items()), NOON))
                outcomes = await service.post_many(session, journals, now=NOON)
                assert [o.journal_id is not None for o in outcomes] == expected
            for account, amount in held.items():
                found = await queries.balance(session, account)
                assert found.amount_minor == amount * account.code.side
            assert await queries.mismatched_balances(session) == 0
        await fresh.close()

    run()
    loop.close()
