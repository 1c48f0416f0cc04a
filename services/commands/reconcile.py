"""`lianyu reconcile`: hold the payment provider's book against ours; 0 means that every cent agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from core.money import PPM, Money
from infra.config import Settings
from services.running import services_needed
from services.wiring import make_clock, make_database, make_payments
from supply.settlement.reconciliation.opening import (
    Opening,
    OpeningTooLate,
    OpeningUnclear,
    ReconciliationStarted,
    start_from,
)
from supply.settlement.reconciliation.provider_rows import GatewayRows
from supply.settlement.reconciliation.report import AgedItem, BalanceCheck, Difference, Report
from supply.settlement.reconciliation.service import reconcile as run

_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


def register(app: typer.Typer) -> None:
    app.command("reconcile")(reconcile)


def reconcile(
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Read again from here (UTC)."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="… to here, not included."),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(
            "--start-from",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="Once, for an account that was in use before: begin here (UTC), and book what it held then.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Hold the payment provider's book against ours.

    Without dates it goes on where the last run ended. Exits 0 when everything matches, 1 otherwise, 2 when it cannot
    begin where asked.
    """
    with services_needed(Settings(), paysim=True) as settings:
        try:
            report, opened = asyncio.run(_run(settings, _utc(since), _utc(until), _utc(start)))
        except (ReconciliationStarted, OpeningTooLate, OpeningUnclear) as refused:
            typer.echo(f"{refused.code}: {refused.message}", err=True)
            raise typer.Exit(2) from refused
    if not as_json:
        _print_openings(Console(), opened)
    if as_json:
        typer.echo(orjson.dumps(report.as_json()).decode())
    else:
        _print(report)
    raise typer.Exit(0 if report.ok else 1)


async def _run(
    settings: Settings, since: datetime | None, until: datetime | None, start: datetime | None
) -> tuple[Report, Sequence[Opening]]:
    db, payments, clock = make_database(settings), make_payments(settings), make_clock(settings)
    rows, opened = GatewayRows(payments), list[Opening]()
    try:
        if start is not None:
            opened = await start_from(db, rows, start, clock=clock, booked_by="lianyu reconcile")
        return await run(db, rows, clock=clock, since=since, until=until), opened
    finally:
        await payments.close()
        await db.close()


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at else None


def _print(report: Report) -> None:
    console = Console()
    console.print(
        f"{report.provider}: {report.rows_read} rows read, {report.rows_new} new, {report.matched} matched now"
    )
    _print_balances(console, report.balances)
    _print_differences(console, report.differences)
    _print_aged(console, report.aged, report.started_at)
    health = report.health
    console.print(
        f"matched of the volume of {health.days} days: {_percent(health.matched_ppm)}; oldest unmatched:"
        f" {_age(health.oldest_unmatched_s)}"
    )
    console.print("Every cent agrees." if report.ok else "The books and the provider do not agree.")


def _print_openings(console: Console, opened: Sequence[Opening]) -> None:
    for each in opened:
        console.print(
            f"{each.provider}: starts from {each.starts_at:%Y-%m-%d %H:%M:%S} UTC with"
            f" {_amount(each.available_minor, each.currency)} available and"
            f" {_amount(each.pending_minor, each.currency)} pending (account 3000)"
        )


def _print_balances(console: Console, checks: Sequence[BalanceCheck]) -> None:
    table = _table("", "pending: books", "provider", "available: books", "provider ", "verdict")
    for check in checks:
        table.add_row(
            check.currency,
            _amount(check.books_pending_minor, check.currency),
            _amount(check.provider_pending_minor, check.currency),
            _amount(check.books_available_minor, check.currency),
            _amount(check.provider_available_minor, check.currency),
            check.finding or "agrees",
        )
    if checks:
        console.print(table)


def _print_differences(console: Console, differences: Sequence[Difference]) -> None:
    table = _table("what", "reference", "type", "provider", "books", "since", "state")
    for each in differences:
        state = "on the way" if each.waiting else "in suspense" if each.suspended else "open"
        table.add_row(
            each.finding,
            each.reference,
            each.type,
            _amount(each.expected_minor, each.currency),
            _amount(each.booked_minor, each.currency),
            f"{each.since:%Y-%m-%d %H:%M}",
            state,
        )
    if differences:
        console.print(table)


def _print_aged(console: Console, items: Sequence[AgedItem], now: datetime) -> None:
    table = _table("account", "whose", "amount", "age", "limit")
    for item in items:
        age = int((now - item.since).total_seconds())
        amount = _amount(item.amount_minor, item.currency)
        table.add_row(str(item.code), item.owner, amount, _age(age), _age(item.limit_s))
    if items:
        console.print(table)


def _table(*columns: str) -> Table:
    table: Any = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.strip(), overflow="fold")
    return table  # type: ignore[no-any-return]


def _amount(minor: int | None, currency: str) -> str:
    return "–" if minor is None else str(Money(minor, currency))


def _percent(ppm: int) -> str:
    return f"{ppm * 100 // PPM}.{ppm * 10_000 // PPM % 100:02d} %"


def _age(seconds: int) -> str:
    for size, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
