"""The report of a run: what was sold, who earned what, and whether everything adds up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from core.money import Money
from services.demo.facts import Facts, Row
from services.demo.proof import Proof


@dataclass(slots=True)
class Driven:
    """What the driver itself saw acknowledged, to be found again in the database. ``paid`` ⊆ ``placed``."""

    placed: list[str] = field(default_factory=list)
    """Checkouts whose placing was confirmed."""
    paid: set[str] = field(default_factory=set)
    clicks: int = 0
    scans: int = 0
    """Of the clicks."""
    codes: int = 0
    """Promoters' codes that were entered into a basket."""
    proofs: list[Proof] = field(default_factory=list)
    """What pairs of brands found when each decided an order of theirs again."""
    declined: int = 0
    turned_away: dict[str, int] = field(default_factory=dict)
    """Shoppers who could not buy, by code."""
    refunds: list[str] = field(default_factory=list)
    webhooks: int = 0
    repeated: dict[str, int] = field(default_factory=dict)
    """Calls that had to be repeated, by why."""
    killed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    asked_for: int = 0


def problems(facts: Facts, driven: Driven, provider: Mapping[str, int]) -> list[str]:
    """Everything that is not as it must be; empty when the run is sound.

    ``provider``: what the payment provider says it holds for us, available and pending, by currency.
    """
    return [*_orders(facts, driven), *_proven(facts, driven), *_books(facts, provider), *_work(facts)]


def _orders(facts: Facts, driven: Driven) -> Iterable[str]:
    sold = sum(row["orders"] for row in facts.sales)
    if sold < driven.asked_for:
        yield f"{sold} paid orders, {driven.asked_for} were to be made"
    known = {row["id"]: row for row in facts.acknowledged}
    for checkout in driven.placed:
        if checkout not in known or not known[checkout]["orders"]:
            yield f"checkout {checkout} was acknowledged and is not there"
    for checkout in sorted(driven.paid):
        if known.get(checkout, {}).get("status") != "paid":
            yield f"checkout {checkout} was paid and is {known.get(checkout, {}).get('status')}"
    if len(set(driven.placed)) != len(driven.placed):
        yield "a checkout was acknowledged twice"
    paid = {row["status"]: row["n"] for row in facts.checkouts}.get("paid", 0)
    if paid != len(driven.paid):
        yield f"{paid} checkouts are paid, {len(driven.paid)} were acknowledged"
    if facts.payments["captured"] != facts.payments["charges"] or facts.payments["captured"] != paid:
        yield f"{paid} paid checkouts, {facts.payments['captured']} payments, {facts.payments['charges']} charges"
    for row in facts.identities:
        if not row["holds"]:
            yield f"the identity of order {row['number']} does not hold: {row}"
    if len(facts.identities) != sold:
        yield f"{len(facts.identities)} identities for {sold} orders"


def _proven(facts: Facts, driven: Driven) -> Iterable[str]:
    for difference in facts.not_the_same:
        yield f"decided again, it is not the same: {difference}"
    if len(driven.proofs) != len(facts.partners):
        yield f"{len(driven.proofs)} of {len(facts.partners)} pairs of brands verified an order"
    for proof in driven.proofs:
        if not proof.holds:
            yield f"two brands do not agree on {proof.order_id}: {'; '.join(proof.differences)}"
    if driven.codes and not facts.attribution["orders_by_code"]:
        yield "promoters' codes were entered and nobody was credited for one"


def _books(facts: Facts, provider: Mapping[str, int]) -> Iterable[str]:
    for currency, total in _by_currency(facts.trial_balance, "debit_minor").items():
        if total:
            yield f"the books do not sum to nothing: {Money(total, currency)}"
    if facts.unbalanced_journals:
        yield f"{facts.unbalanced_journals} journals are not balanced"
    if facts.mismatched_balances:
        yield f"{facts.mismatched_balances} balances differ from their entries"
    cash = _by_currency((row for row in facts.trial_balance if row["code"] in (1000, 1010)), "debit_minor")
    for currency in sorted(set(cash) | set(provider)):
        if cash.get(currency, 0) != provider.get(currency, 0):
            ours, theirs = cash.get(currency, 0), provider.get(currency, 0)
            yield f"the provider holds {Money(theirs, currency)}, the books say {Money(ours, currency)}"


def _work(facts: Facts) -> Iterable[str]:
    for name, count in facts.unsettled.items():
        if count:
            yield f"{name.replace('_', ' ')}: {count} at the end"
    for row in facts.failed_messages:
        yield f"{row['n']} × {row['handler']} gave up: {row['error']}"
    if facts.impossible_stock:
        yield f"{facts.impossible_stock} stock levels are impossible"
    if not any(row["n"] for row in facts.payouts if row["status"] == "paid"):
        yield "nobody was paid out"
    if not facts.commissions:
        yield "nobody earned a commission"


def _by_currency(rows: Iterable[Row], column: str) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row["currency"]] += row[column]
    return dict(sums)


def render(facts: Facts, driven: Driven, failures: Sequence[str], console: Console) -> None:
    """Tables for people. Amounts with their currency, nothing rounded."""
    _sales(facts, console)
    _commissions(facts, console)
    _proofs(facts, driven, console)
    _routing(facts, console)
    _fulfillment(facts, console)
    _refunds(facts, console)
    _settlement(facts, console)
    _soundness(facts, driven, console)
    if failures:
        console.print(f"\n[bold red]{len(failures)} things are not as they must be:[/]")
        for failure in failures:
            console.print(f"  • {failure}", markup=False, soft_wrap=True)
    else:
        console.print("\n[bold green]Every identity holds; the books are balanced.[/]")


def _sales(facts: Facts, console: Console) -> None:
    rows = [
        (
            row["brand"], row["orders"], row["sold_by_partners"], _money(row, "goods_minor"),
            _money(row, "shipping_minor"), _money(row, "total_minor"), _money(row, "refunded_minor"),
        )
        for row in facts.sales
    ]  # fmt: skip
    heads = ("brand", "orders", "by partners", "goods", "shipping", "paid", "refunded")
    _table(console, "Sales by brand", heads, rows)


def _commissions(facts: Facts, console: Console) -> None:
    rows = [
        (
            row["payee"], row["role"].replace("_", " "), row["orders"], _money(row, "earned_minor"),
            _money(row, "reversed_minor"),
        )
        for row in facts.commissions
    ]  # fmt: skip
    _table(console, "Commissions", ("promoter", "as", "orders", "earned", "taken back"), rows)
    console.print(
        f"{facts.attribution['clicks']} touches, {facts.attribution['scans']} of them scans of printed cards and"
        f" {facts.attribution['codes_entered']} promoters' codes; {facts.attribution['decisions']} attribution"
        f" decisions, {facts.attribution['orders_with_commission']} orders with a commission,"
        f" {facts.attribution['orders_by_code']} of them by a code."
    )


def _proofs(facts: Facts, driven: Driven, console: Console) -> None:
    """Every pair of brands, each through its own token, on one order of theirs."""
    rows = [
        (
            facts.names.get(proof.advertiser, proof.advertiser), facts.names.get(proof.promoter, proof.promoter),
            proof.order_id, proof.hashes[-1][:16] if proof.hashes else "differ", "yes" if proof.holds else "no",
        )
        for proof in driven.proofs
    ]  # fmt: skip
    heads = ("advertiser", "promoter", "order", "both find (result hash)", "same")
    _table(console, "Orders decided again by both brands, each by itself", heads, rows)
    console.print(
        f"{facts.attribution['decisions'] - len({d.split()[0] for d in facts.not_the_same})} of"
        f" {facts.attribution['decisions']} stored decisions are what their own inputs give."
    )


def _routing(facts: Facts, console: Console) -> None:
    rows = []
    for row in facts.routing:
        saved = row["cheapest_per_line_minor"] - row["cost_minor"]
        share = saved / row["cheapest_per_line_minor"] if row["cheapest_per_line_minor"] else 0
        rows.append(
            (
                row["runs"], _money(row, "cost_minor"), _money(row, "cheapest_per_line_minor"),
                f"{Money(saved, row['currency'])} ({share:.2%})", row["better"], f"{row['p50_us']} µs",
            )
        )  # fmt: skip
    heads = ("orders", "routed cost", "cheapest per line", "saved", "better in", "p50")
    _table(console, "Routing against the cheapest offer of each line", heads, rows)
    console.print(f"{facts.reroutes} re-routings.")


def _fulfillment(facts: Facts, console: Console) -> None:
    keys = ("supplier", "orders", "delivered", "rejected", "timed_out", "shipped_late", "taken_over")
    rows = [tuple(row[key] for key in keys) for row in facts.fulfillment]
    _table(console, "Fulfilment orders", tuple(key.replace("_", " ") for key in keys), rows)


def _refunds(facts: Facts, console: Console) -> None:
    rows = [(row["reason"], row["status"], row["n"], _money(row, "amount_minor")) for row in facts.refunds]
    _table(console, "Refunds", ("reason", "status", "how many", "amount"), rows)


def _settlement(facts: Facts, console: Console) -> None:
    rows = [
        (
            row["party"], row["role"], row["payouts"], _money(row, "paid_minor"), _money(row, "pending_minor"),
            _money(row, "available_minor"), _money(row, "owes_minor"),
        )
        for row in facts.parties
    ]  # fmt: skip
    heads = ("party", "as", "payouts", "paid out", "pending", "available", "owes")
    _table(console, "Settlement by party", heads, rows)


def _soundness(facts: Facts, driven: Driven, console: Console) -> None:
    held = sum(row["holds"] for row in facts.identities)
    sums = _by_currency(facts.trial_balance, "debit_minor")
    rows = [
        ("orders whose identity holds", f"{held} of {len(facts.identities)}"),
        ("sum of the books", ", ".join(str(Money(total, currency)) for currency, total in sums.items())),
        ("unbalanced journals", facts.unbalanced_journals),
        ("balances that differ from their entries", facts.mismatched_balances),
        ("checkouts acknowledged", f"{len(driven.placed)}, {len(driven.paid)} of them paid"),
        ("cards declined first", driven.declined),
        ("shoppers turned away", _counts(driven.turned_away) or "none"),
        ("signed webhooks received by suppliers", driven.webhooks),
        ("calls repeated", sum(driven.repeated.values())),
        ("processes killed", ", ".join(driven.killed) or "none"),
        ("time", f"{driven.seconds:.0f} s"),
    ]
    _table(console, "Soundness", ("", ""), rows)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in sorted(counts.items()))


def _money(row: Row, column: str) -> str:
    return str(Money(row[column], row["currency"])) if row[column] else "–"


def _table(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=any(heads))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)
