"""Any sequence of what can happen to money keeps every invariant of the books (money.md §3).

The rules are recipes, their amounts drawn; the provider is real and sometimes does not answer. A failure prints the
sequence as a program that can be pasted into a test (add ``Phase.shrink`` for the shortest one).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.ids import RefundId
from supply.settlement.composition import RefundTooLarge
from supply.settlement.errors import NothingToRefund, OrderDisputed, OrderLineNotSettled
from supply.settlement.refunds import LineRefund, RefundPlan, ShippingRefund
from tests.conftest import TestDatabase
from tests.supply.settlement.machine.books import Books, Life

EXAMPLES, STEPS = 8, 18
FAULTS = ("drop_response", "server_error", "rate_limit", "transfer_refusal", "reversal_refusal")


class MoneyMachine(RuleBasedStateMachine):
    postgres: ClassVar[TestDatabase]
    loop: ClassVar[asyncio.AbstractEventLoop]

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self.postgres.empty())
        self.books = Books(self.postgres.url(), self.loop)
        self.books.run(self.books.open())

    def _order(self, pick: int) -> Life:
        return self.books.orders[pick % len(self.books.orders)]

    @rule(
        goods=st.lists(st.integers(1, 9_000), min_size=1, max_size=3), units=st.integers(1, 4),
        cost_ppm=st.sampled_from([0, 400_000, 1_100_000]), commission=st.integers(0, 900),
    )  # fmt: skip
    def capture(self, goods: list[int], units: int, cost_ppm: int, commission: int) -> None:
        self.books.run(self.books.capture(goods, units, cost_ppm, commission))

    @precondition(lambda self: self.books.orders)
    @rule(pick=st.integers(0, 9))
    def deliver(self, pick: int) -> None:
        self.books.run(self.books.deliver(self._order(pick)))

    @rule(days=st.sampled_from([0, 1, 4, 16, 46]))
    def time_passes_and_workers_work(self, days: int) -> None:
        self.books.clock.advance(timedelta(days=days))
        self.books.run(self.books.sweep())

    @precondition(lambda self: self.books.orders)
    @rule(pick=st.integers(0, 9), amount=st.integers(1, 12_000))
    def refund_an_amount(self, pick: int, amount: int) -> None:
        """Model parity: it is refused exactly when the customer keeps less, or a bank holds the money."""
        life = self._order(pick)
        plan = RefundPlan(RefundId.new(), life.order.order_id, amount_minor=amount)
        if life.disputed:
            with pytest.raises(OrderDisputed):
                self.books.run(self.books.reserve(life, plan))
        elif life.carries(amount):
            self.books.run(self.books.reserve(life, plan))
        else:
            with pytest.raises((RefundTooLarge, NothingToRefund)):
                self.books.run(self.books.reserve(life, plan))

    @precondition(lambda self: self.books.orders)
    @rule(pick=st.integers(0, 9), accepts=st.booleans(), what=st.sampled_from(["unit", "shipping", "rest"]))
    def refund_goods(self, pick: int, accepts: bool, what: str) -> None:
        life = self._order(pick)
        line = life.order.lines[0]
        plan = {
            "unit": RefundPlan(
                RefundId.new(), life.order.order_id, lines=[LineRefund(line.order_line_id, 1, accepts)]
            ),
            "shipping": RefundPlan(RefundId.new(), life.order.order_id, shipping=[ShippingRefund()]),
            "rest": RefundPlan(RefundId.new(), life.order.order_id, everything=True),
        }[what]
        try:
            self.books.run(self.books.reserve(life, plan))
        except (RefundTooLarge, NothingToRefund, OrderDisputed):
            return
        assert life.kept_minor >= 0
        assert what != "rest" or life.kept_minor == 0

    @precondition(lambda self: self.books.orders)
    @rule(pick=st.integers(0, 9), amount=st.integers(1, 3_000))
    def give_goodwill(self, pick: int, amount: int) -> None:
        life = self._order(pick)
        plan = RefundPlan(RefundId.new(), life.order.order_id)
        if not life.disputed and life.kept_minor >= amount:
            self.books.run(self.books.reserve(life, plan, goodwill_minor=amount))

    @precondition(lambda self: self.books.refunds)
    @rule(pick=st.integers(0, 9))
    def send_a_refund(self, pick: int) -> None:
        self.books.run(self.books.send_refund(self.books.refunds[pick % len(self.books.refunds)]))

    @precondition(lambda self: any(not life.disputed for life in self.books.orders))
    @rule(pick=st.integers(0, 9), part_ppm=st.sampled_from([100_000, 500_000, 1_000_000]))
    def dispute(self, pick: int, part_ppm: int) -> None:
        life = self._order(pick)
        if not life.disputed:
            self.books.run(self.books.dispute(life, part_ppm))

    @precondition(lambda self: any(life.disputed for life in self.books.orders))
    @rule(verdict=st.sampled_from(["won", "lost"]))
    def decide(self, verdict: str) -> None:
        life = next(each for each in self.books.orders if each.disputed)
        self.books.run(self.books.decide(life, verdict))

    @rule()
    def pay_out(self) -> None:
        self.books.run(self.books.pay_out())

    @rule(kind=st.sampled_from(FAULTS))
    def something_will_fail(self, kind: str) -> None:
        """On the way to refunds, transfers and their reversals; shoppers are left in peace."""
        match = {} if kind.endswith("_refusal") else {"path": "/v1/[rt]*"}
        self.books.run(self.books.paysim.fault(kind, match=match))

    @precondition(lambda self: self.books.orders)
    @rule(pick=st.integers(0, 9), cost=st.integers(0, 4_000))
    def reroute(self, pick: int, cost: int) -> None:
        life = self._order(pick)
        with contextlib.suppress(OrderLineNotSettled):  # the unit came back, or is with somebody else already
            self.books.run(self.books.reroute(life, cost))

    @rule(offset=st.integers(0, 12), change=st.booleans())
    def post_again(self, offset: int, change: bool) -> None:
        self.books.run(self.books.repost(offset, change=change))

    @invariant()
    def books_hold(self) -> None:
        self.books.run(self.books.check())

    def teardown(self) -> None:
        if hasattr(self, "books"):
            try:
                self.books.run(self.books.finish())
            finally:
                self.books.run(self.books.close())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_any_sequence_keeps_the_books(postgres: TestDatabase, loop: asyncio.AbstractEventLoop) -> None:
    database = TestDatabase(postgres.name)  # of this loop
    MoneyMachine.postgres, MoneyMachine.loop = database, loop
    run_state_machine_as_test(
        MoneyMachine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, derandomize=True, print_blob=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    loop.run_until_complete(database.empty())
    loop.run_until_complete(database.close())
