"""Faults somebody could have made in the recipes: each replaces one function of one module."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from types import ModuleType
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import (
    capture,
    composition,
    late_payments,
    processing_fees,
    provider_funds,
    refunds,
    release,
    service,
    taking,
)
from supply.settlement.at_source import booking, covering
from supply.settlement.composition import LineState, OrderState, Part, ShippingState
from supply.settlement.disputes import freezing, posting
from supply.settlement.kinds import Kind
from supply.settlement.reconciliation import opening
from supply.settlement.undoing import Elsewhere
from tests.mutants import scenarios
from tests.mutants.scenarios import Stage

Wrong = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """``wrong`` is given the right function and answers with one that has the fault."""

    name: str
    module: ModuleType
    attribute: str
    wrong: Callable[[Wrong], Wrong]
    scenario: Callable[[Stage], Awaitable[None]]


def _module(function: Callable[..., Any]) -> ModuleType:
    """Where a public verb lives, whatever its file is called."""
    return sys.modules[function.__module__]


def original_weights(right: Wrong) -> Wrong:
    def refund_amount(order: OrderState, amount_minor: int) -> composition.Refund:
        sold = OrderState(
            tuple(LineState(each.sale) for each in order.lines),
            tuple(ShippingState(each.sale) for each in order.shipping),
        )
        first, second = right(sold, amount_minor), right(order, amount_minor)
        due = {(t.source_id, t.seat): t.amount_minor for t in first.taken}

        def with_due(state: Any) -> Any:
            by_amount = {
                seat: state.returned.by_amount.get(seat, 0) + due.get((_id(state), seat), 0)
                for seat in state.sale.parts
            }
            return replace(state, returned=replace(state.returned, by_amount=by_amount))

        after = OrderState(
            tuple(with_due(each) for each in order.lines), tuple(with_due(each) for each in order.shipping)
        )
        refund: composition.Refund = replace(second, order=after, taken=first.taken)
        return refund

    return refund_amount


def _id(state: LineState | ShippingState) -> str:
    return state.sale.line_id if isinstance(state, LineState) else state.sale.shipping_id


def keeps(part: Part) -> Callable[[Wrong], Wrong]:
    """A refund by line does not take this part back; the merchant (or the customer) pays for it."""

    def mutate(right: Wrong) -> Wrong:
        def line_parts(*args: Any) -> Any:
            taken = right(*args)
            kept = taken[part]
            taken[part] = 0
            if part is not Part.TAX:
                taken[Part.MERCHANT] += kept
            return taken

        return line_parts

    return mutate


def drops_the_remainder(right: Wrong) -> Wrong:
    def allocate_remaining(amount: int, remaining: list[int]) -> list[int]:
        whole = sum(remaining)
        return [amount * each // whole if whole else 0 for each in remaining]

    return allocate_remaining


def forgets_to_mark(right: Wrong) -> Wrong:
    def release_journals(book: Any, now: Any) -> Any:
        cells = [cell for line in book.lines for cell in line.cells.values()]
        pending = [cell.pending_minor for cell in cells]
        journals = right(book, now)
        for cell, amount in zip(cells, pending, strict=True):
            cell.pending_minor = amount
        return journals

    return release_journals


def everything_to_the_first(right: Wrong) -> Wrong:
    """Released money of every party goes to one of them."""
    first: list[str] = []

    def released_account(part: Part, party: str, currency: str, *, tenant_id: Any) -> Any:
        if party and not first:
            first.append(party)
        return right(part, first[0] if party else party, currency, tenant_id=None)

    return released_account


def gives_nothing_back(right: Wrong) -> Wrong:
    return lambda book, changes, payees: Elsewhere()


def a_unit_short(right: Wrong) -> Wrong:
    """A payout reserves a unit less than it pays."""

    def journal(key: str, kind: str, legs: Any, *rest: Any, **named: Any) -> Journal:
        if kind == Kind.PAYOUT_RESERVED:
            legs = tuple(
                replace(leg, amount_minor=leg.amount_minor - (1 if leg.amount_minor > 0 else -1))
                for leg in legs
            )
        return Journal(key, kind, legs, *rest, **named)

    return journal


def a_key_of_its_own(right: Wrong) -> Wrong:
    """Every posting has another key, so none is ever recognised."""
    numbers = count()
    return lambda key, *rest, **named: Journal(f"{key}:{next(numbers)}", *rest, **named)


def twice(right: Wrong) -> Wrong:
    """What was netted is taken once more, for the platform."""

    async def net_receivables(session: Any, cycle: str, parties: Any, *, now: Any) -> int:
        from supply.ledger import service as ledger
        from supply.settlement.parties import party_account, platform_account

        netted: int = await right(session, cycle, parties, now=now)
        if netted:
            party, currency, tenant = parties[0]
            legs = (
                debit(party_account(Code.AVAILABLE, party, currency, tenant), netted),
                credit(platform_account(Code.FEE_REVENUE, currency), netted),
            )
            await ledger.post(session, Journal(f"again:{cycle}", Kind.NETTING, legs, now), now=now)
        return netted

    return net_receivables


def to_available(right: Wrong) -> Wrong:
    """What is frozen for a dispute can be paid out."""
    return lambda book, payee, tenant: replace(right(book, payee, tenant), code=Code.AVAILABLE)


def the_other_side(right: Wrong) -> Wrong:
    """Every leg on the side it does not belong to: it balances all the same."""
    return lambda legs: right([replace(leg, amount_minor=-leg.amount_minor) for leg in legs])


def owes_to_the_merchant(right: Wrong) -> Wrong:
    """A residual below zero is booked as if the merchant had earned it."""

    def wrong_debit(account: Any, amount_minor: int) -> Any:
        if account.code is Code.RECEIVABLE:
            return credit(replace(account, code=Code.PENDING), amount_minor)
        return right(account, amount_minor)

    return wrong_debit


def leaves_the_cell(right: Wrong) -> Wrong:
    """The ledger moves, the order's parts do not know."""

    def take(book: Any, shares: Any, held: Any) -> Any:
        cells = [cell for line in book.lines for cell in line.cells.values()]
        before = [(cell.pending_minor, cell.released_minor) for cell in cells]
        legs = right(book, shares, held)
        for cell, (pending, released) in zip(cells, before, strict=True):
            cell.pending_minor, cell.released_minor = pending, released
        return legs

    return take


def spares_revenue(right: Wrong) -> Wrong:
    """A refund after release takes the platform's fee from what is deferred, where it no longer is."""
    return lambda code, currency: right(Code.FEE_DEFERRED if code is Code.FEE_REVENUE else code, currency)


def never_available(right: Wrong) -> Wrong:
    """Nobody remembers when the pending part of an opening balance becomes available."""

    async def due_later(*_: Any) -> dict[Any, int]:
        return {}

    return due_later


def due_at_once(right: Wrong) -> Wrong:
    """What a merchant will owe for its own checkout's sales is owed from the beginning."""
    return lambda book: debit(book.merchants(Code.RECEIVABLE), right(book).amount_minor)


def all_has_come(right: Wrong) -> Wrong:
    """Whatever a party still owes, all of its commission counts as come."""

    def cover(session: Any, payee_id: str, currency: str, *, owed_minor: int) -> Any:
        return right(session, payee_id, currency, owed_minor=0)

    return cover


def due_short_of_a_unit(right: Wrong) -> Wrong:
    """A unit of what is due is never claimed."""

    def due(row: Any, now: Any) -> Journal:
        journal = right(row, now)
        legs = tuple(
            replace(leg, amount_minor=leg.amount_minor - (1 if leg.amount_minor > 0 else -1))
            for leg in journal.legs
        )
        return replace(journal, legs=legs)

    return due


def nothing_is_uncovered(right: Wrong) -> Wrong:
    """Lines whose commission has not come are looked for where it has."""

    async def cover_due(db: Any, *, clock: Any) -> int:
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(text("UPDATE commission_dues SET covered_minor = owed_minor"))
        return 0

    return cover_due


def keeps_what_was_paid(right: Wrong) -> Wrong:
    """What a merchant had paid of a commission that is gone does not come back to it."""

    async def change(*arguments: Any) -> tuple[int, int]:
        later, _ = await right(*arguments)
        return later, 0

    return change


MUTANTS = [
    Mutant("a refund by amount goes by the original weights", composition, "refund_amount", original_weights,
           scenarios.refunded),
    Mutant("a refund keeps the platform's fee", composition, "_line_parts", keeps(Part.PLATFORM_FEE),
           scenarios.refunded),
    Mutant("a refund keeps the tax", composition, "_line_parts", keeps(Part.TAX), scenarios.refunded),
    Mutant("an allocation drops its remainder", composition, "allocate_remaining", drops_the_remainder,
           scenarios.refunded),
    Mutant("a void forgets to give back", refunds, "put_back", gives_nothing_back, scenarios.refunded),
    Mutant("a refund moves money and not the parts", refunds, "take", leaves_the_cell, scenarios.refunded),
    Mutant("a line is released twice", release, "release_journals", forgets_to_mark, scenarios.released),
    Mutant("a release pays the wrong party", release, "released_account", everything_to_the_first,
           scenarios.released),
    Mutant("a refund after release takes deferred fee", taking, "platform_account", spares_revenue,
           scenarios.released),
    Mutant("a residual below zero is earned", capture, "debit", owes_to_the_merchant,
           scenarios.sold_below_cost),
    Mutant("a payout reserves less than it pays", _module(service.make_batch), "Journal", a_unit_short,
           scenarios.paid_and_taken_back),
    Mutant("a debt is netted twice", _module(service.make_batch), "net_receivables", twice,
           scenarios.paid_and_taken_back),
    Mutant("a reversal is booked on the wrong side", _module(service.record_reversal), "merged", the_other_side,
           scenarios.paid_and_taken_back),
    Mutant("a fee has another key each time", provider_funds, "Journal", a_key_of_its_own, scenarios.fees_taken),
    Mutant("a recharged fee stays in the parts", processing_fees, "take", leaves_the_cell, scenarios.fees_taken),
    Mutant("a late payment has another key each time", late_payments, "Journal", a_key_of_its_own,
           scenarios.paid_too_late),
    Mutant("a dispute freezes into what can be paid", freezing, "reserved", to_available, scenarios.disputed),
    Mutant("a lost dispute moves money and not the parts", posting, "take", leaves_the_cell, scenarios.disputed),
    Mutant("an opening balance is booked on the wrong side", opening, "merged", the_other_side,
           scenarios.begun_with),
    Mutant("an opening balance never becomes available", opening, "_due_later", never_available,
           scenarios.begun_with),
    Mutant("commission of an own checkout is due at once", capture, "owed_later", due_at_once,
           scenarios.sold_at_source),
    Mutant("commission counts as come while it is owed", covering, "cover", all_has_come,
           scenarios.sold_at_source),
    Mutant("commission that has not come is released", covering, "cover_due", nothing_is_uncovered,
           scenarios.sold_at_source),
    Mutant("commission that went back stays paid", booking, "_change", keeps_what_was_paid,
           scenarios.sold_at_source),
    Mutant("a commission is due short of a unit", covering, "_due", due_short_of_a_unit,
           scenarios.sold_at_source),
    Mutant("a re-route moves money and not the parts", _module(service.reroute), "take", leaves_the_cell,
           scenarios.rerouted),
]  # fmt: skip
