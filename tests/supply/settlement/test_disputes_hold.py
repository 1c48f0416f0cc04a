"""money.md §3.5 to §3.7 over random lives with refunds, goodwill, disputes, releases, re-routes and payouts."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import RefundId
from infra.db.session import Database
from infra.payments.gateway import Dispute
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement import goodwill, queries, service
from supply.settlement.composition import Part, RefundTooLarge
from supply.settlement.denied_commission import deny_commission, restore_commission
from supply.settlement.disputes.absorbing import absorb_loss
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.errors import DisputeNotLost, NothingOwed
from supply.settlement.disputes.handlers import on_refund_voided
from supply.settlement.disputes.thawing import thawed
from supply.settlement.errors import NothingToRefund, OrderDisputed, OrderLineNotSettled
from supply.settlement.events import RefundVoided
from supply.settlement.order_book import PARTY_PARTS, load
from supply.settlement.parties import party_account, platform_account, provider_account
from tests.factories.settlement import dispute_of
from tests.supply.settlement.random_life import live_at_random
from tests.supply.settlement.test_books_hold import Life

_FROZEN = text("SELECT coalesce(sum(pending_minor + available_minor), 0)::bigint FROM dispute_shares")
_OPEN = text("SELECT coalesce(sum(amount_minor), 0)::bigint FROM disputes WHERE stage = 'open'")


class DisputedLife(Life):
    """``told`` are the disputes as the bank has them, ``paid`` what each party was paid out."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.told: dict[str, Dispute] = {}
        self.paid: dict[str, int] = {}
        self.absorbed = self.given = 0
        self.denied: list[str] = []

    async def step(self) -> None:
        verbs: list[Callable[[], Awaitable[None]]] = [
            self.refund, self.end_refund, self.deliver, self.release, self.reroute, self.pay_out, self.give,
            self.dispute, self.dispute, self.verdict, self.verdict, self.old_news, self.absorb, self.deny,
            self.restore,
        ]  # fmt: skip
        self.clock.advance(timedelta(days=self.dice.randrange(0, 12)))
        refused = (RefundTooLarge, NothingToRefund, OrderLineNotSettled, OrderDisputed, NothingOwed)
        with contextlib.suppress(*refused, DisputeNotLost):
            await self.dice.choice(verbs)()

    async def end_refund(self) -> None:
        if not self.open:
            return
        refund = self.open.pop(self.dice.randrange(len(self.open)))
        settled = self.dice.random() < 0.6
        if settled:
            await service.settle_refund(self.session, refund, now=self.clock.now())
        if not settled or self.dice.random() < 0.2:  # the bank may send it back later
            await service.void_refund(self.session, refund, now=self.clock.now())
            event = RefundVoided(refund, self.order.order_id, self.clock.now())
            await on_refund_voided(self.session, event, clock=self.clock)

    async def reroute(self) -> None:
        await super().reroute()
        if self.dice.random() < 0.5:  # the worker does so always, but only after the posting
            book = await load(self.session, self.order.order_id)
            async with thawed(self.session, book, now=self.clock.now()):
                pass

    async def give(self) -> None:
        refund, amount = RefundId.new(), self.dice.randrange(1, 2_000)
        await goodwill.reserve_goodwill(
            self.session, refund, self.order.order_id, amount, now=self.clock.now()
        )
        self.open.append(refund)

    async def dispute(self) -> None:
        """All the bank would find left, or a part of it; sometimes only asked about."""
        book = await load(self.session, self.order.order_id)
        disputed = sum(d.amount_minor for d in self.told.values() if d.status == "needs_response")
        left = book.customer_keeps_minor - disputed
        if left <= 0:
            return
        amount = left if self.dice.random() < 0.4 else self.dice.randrange(1, left + 1)
        await self._tell(f"du_{RefundId.new()}", "needs_response", amount)

    async def verdict(self) -> None:
        undecided = [d for d in self.told.values() if d.status in ("needs_response", "lost")]
        if undecided:
            dispute = self.dice.choice(undecided)
            status = "won" if dispute.status == "lost" else self.dice.choice(["won", "lost", "lost"])
            await self._tell(dispute.id, status, dispute.amount_minor)

    async def old_news(self) -> None:
        """What was told is told again, and an earlier state of it after that."""
        if self.told:
            dispute = self.dice.choice(list(self.told.values()))
            for status in (dispute.status, "needs_response"):
                facts = self._facts(dispute.id, status, dispute.amount_minor)
                await apply_dispute(self.session, facts, provider="stripe", now=self.clock.now())

    async def absorb(self) -> None:
        if self.told:
            dispute_id = self.dice.choice(list(self.told))
            self.absorbed += await absorb_loss(
                self.session, SYSTEM, dispute_id, self.order.order_id, reason="random", clock=self.clock
            )

    async def deny(self) -> None:
        """Some line's commission was not earned, or a part of it."""
        line, amount = (
            self.dice.choice(self.order.lines),
            self.dice.choice([None, self.dice.randrange(1, 900)]),
        )
        self.denied.append(f"d{len(self.denied)}")
        await deny_commission(
            self.session, self.order.order_id, line.order_line_id, reference=self.denied[-1], reason="random",
            approved_by="nobody", now=self.clock.now(), amount_minor=amount,
        )  # fmt: skip

    async def restore(self) -> None:
        if self.denied:
            await restore_commission(
                self.session, self.order.order_id, self.dice.choice(self.denied), reason="random",
                approved_by="nobody", now=self.clock.now(),
            )  # fmt: skip

    async def pay_out(self) -> None:
        """R8a and R8b of everything a party has available."""
        parties = [str(self.parties.merchant), str(self.parties.supplier), str(self.parties.individual)]
        party = self.dice.choice(parties)
        found = await queries.party_balances(self.session, [party])
        amount = found[0].available_minor if found else 0
        if amount:
            legs = (
                debit(party_account(Code.AVAILABLE, party, "CNY"), amount),
                credit(provider_account(Code.PROVIDER_AVAILABLE, "stripe", "CNY"), amount),
            )
            journal = Journal(f"paid:{RefundId.new()}", "payout_settled", legs, self.clock.now())
            await posting.post(self.session, journal, now=self.clock.now())
            self.paid[party] = self.paid.get(party, 0) + amount

    def _facts(self, dispute_id: str, status: str, amount: int) -> Dispute:
        return dispute_of(
            self.order.charge_id, dispute_id=dispute_id, status=status, amount_minor=amount, fee_minor=15
        )

    async def _tell(self, dispute_id: str, status: str, amount: int) -> None:
        facts = self._facts(dispute_id, status, amount)
        await apply_dispute(self.session, facts, provider="stripe", now=self.clock.now())
        self.told[dispute_id] = facts

    async def check(self) -> None:
        await super().check()
        trial = {line.code: line.debit_minor for line in await ledger.trial_balance(self.session)}
        book = await load(self.session, self.order.order_id)
        cells = [cell for line in book.lines for cell in line.cells.values()]

        def left(*parts: Part) -> int:
            return sum(cell.held_minor for cell in cells if cell.part in parts)

        # 5: what customers paid less what they got back is what is left of all shares; so with the tax.
        assert sum(cell.held_minor for cell in cells) == book.captured_minor - book.refunded_minor
        assert -trial.get(Code.TAX, 0) == left(Part.TAX)
        assert book.customer_keeps_minor >= 0
        # 6: a party has its share of what customers still hold, less what it was paid (and was let off).
        parties = {cell.payee_id for cell in cells if cell.part in PARTY_PARTS} | set(self.paid)
        has = {b.payee_id: b.net_minor for b in await queries.party_balances(self.session, list(parties))}
        let_off = await self._let_off()
        for party in parties:
            share = sum(cell.held_minor for cell in cells if cell.payee_id == party)
            assert has.get(party, 0) == share - self.paid.get(party, 0) + let_off.get(party, 0)
        # 7: the platform's fee; nothing frozen and nothing owed by a bank without an open dispute.
        fee = (Part.PLATFORM_FEE, Part.PLATFORM_COMMISSION)
        assert -trial.get(Code.FEE_DEFERRED, 0) - trial.get(Code.FEE_REVENUE, 0) == left(*fee)
        assert -trial.get(Code.FEE_DEFERRED, 0) == sum(c.pending_minor for c in cells if c.part in fee)
        assert -trial.get(Code.RESERVED, 0) == (await self.session.execute(_FROZEN)).scalar_one()
        assert trial.get(Code.DISPUTE_RECEIVABLE, 0) == (await self.session.execute(_OPEN)).scalar_one()
        given = await ledger.balance(self.session, platform_account(Code.GOODWILL, "CNY"))
        assert given.amount_minor == max(book.goodwill_minor, 0)
        owed = AccountKey(Code.REFUND_PENDING, f"customer:{self.order.order_id}", "CNY")
        assert (await ledger.balance(self.session, owed)).amount_minor == max(-book.goodwill_minor, 0)
        # What the parties gave back and no refund or bank has brought the customer is owed or on its way.
        assert trial.get(Code.REFUND_PENDING, 0) <= -max(-book.goodwill_minor, 0)

    async def _let_off(self) -> dict[str, int]:
        rows = await self.session.execute(text("SELECT absorbed FROM dispute_orders"))
        sums: dict[str, int] = {}
        for (absorbed,) in rows:
            for each in absorbed:
                sums[each["payee_id"]] = sums.get(each["payee_id"], 0) + each["amount_minor"]
        return sums


def test_invariants_hold_after_every_step_of_a_random_life_with_disputes(db: Database) -> None:
    live_at_random(db, DisputedLife, lives=40, steps=14)
