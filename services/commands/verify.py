"""`lianyu verify attribution`: decide stored orders again and compare, to the last share."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from core.actor import SYSTEM
from core.ids import DecisionId, MalformedId, OrderId
from infra.config import Settings
from marketplace.promotion.decisions.verifying import (
    PAGE,
    Difference,
    StoredDecision,
    Verified,
    stored_decisions,
    told_decision,
    verify,
)
from marketplace.promotion.errors import BadExplanation, DecisionNotFound
from services.running import services_needed
from services.wiring import make_database

_PAGES_AT_ONCE = 6
_SHOWN = 200
"""Differences that are told; the rest is counted, so that a spoiled table does not fill the memory."""
_ANSWER = ("data", "explainAttribution")


@dataclass(slots=True)
class Report:
    """``last`` is the latest decision that was looked at; of a single order, that order's."""

    checked: int = 0
    lines: int = 0
    different: int = 0
    seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    last: Verified | None = None

    def add(self, lines: int, page: Sequence[Verified]) -> None:
        self.checked += len(page)
        self.lines += lines
        for found in page:
            self.different += bool(found.differences)
            self.differences += found.differences[: _SHOWN - len(self.differences)]
            self.last = found

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        del plain["last"]
        hashes = {}
        if self.last is not None and self.checked == 1:
            hashes = {
                "orderId": self.last.order_id, "inputHash": self.last.input_hash,
                "amountsHash": self.last.amounts_hash, "resultHash": self.last.result_hash,
            }  # fmt: skip
        return {**plain, **hashes, "verified": self.checked > 0 and not self.different}


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Recompute what was stored, and compare.", no_args_is_help=True)
    group.callback()(_nothing)
    group.command("attribution")(attribution)
    app.add_typer(group, name="verify")


def _nothing() -> None:
    """Typer makes a group with one command that command; this keeps the name."""


def attribution(
    order: Annotated[str | None, typer.Option("--order", help="This order alone.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Decisions made from here on (UTC)."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False,
            help="An answer of `explainAttribution` as JSON, or a list of them: needs no database.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:  # fmt: skip
    """Decides stored orders again from their stored inputs: hashes, commission lines and shares must be the same.

    Exits 0 when all are, 1 when one differs, 2 when there is nothing to verify.
    """
    began = time.perf_counter()
    try:
        if file is not None:
            told = _told(file)
            report = Report()
            report.add(sum(len(each.lines) for each in told), _verify_page(told))
        else:
            with services_needed(Settings()) as settings:
                report = asyncio.run(_stored(settings, order, since.replace(tzinfo=UTC) if since else None))
    except (BadExplanation, DecisionNotFound, MalformedId) as refused:
        typer.echo(f"{refused.code}: {refused.message}", err=True)
        raise typer.Exit(2) from refused
    report.seconds = time.perf_counter() - began
    if as_json:
        typer.echo(orjson.dumps(report.to_json()).decode())
    else:
        _print(report)
    raise typer.Exit(1 if report.different else 0)


def _told(file: Path) -> list[StoredDecision]:
    try:
        document = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise BadExplanation(f"{file.name} is not JSON: {error}") from error
    told = document if isinstance(document, list) else [document]
    if not told:
        raise BadExplanation(f"{file.name} holds no answer")
    return [told_decision(_inner(each)) for each in told]


def _inner(answer: Any) -> Any:
    """The decision out of a whole answer of the API, or as it is."""
    for name in _ANSWER:
        if isinstance(answer, dict) and name in answer:
            answer = answer[name]
    return answer


def _verify_page(page: Sequence[StoredDecision]) -> list[Verified]:
    return [verify(stored) for stored in page]


async def _stored(settings: Settings, order: str | None, since: datetime | None) -> Report:
    """Page by page, so that what is in memory at once does not depend on how many there are; full pages by one
    process for each core."""
    report = Report()
    order_id = None if order is None else OrderId.parse(order)
    after = DecisionId(int=0)
    loop, under_way = asyncio.get_running_loop(), deque[tuple[int, asyncio.Future[list[Verified]]]]()
    with ProcessPoolExecutor(mp_context=get_context("fork")) as workers:
        # They are made while there is no connection yet that they could share, and have nothing to import.
        workers.submit(_verify_page, ()).result()
        db = make_database(settings)
        try:
            while True:
                async with db.reading(SYSTEM) as session:
                    page = await stored_decisions(session, after=after, since=since, order_id=order_id)
                lines = sum(len(stored.lines) for stored in page)
                if len(page) < PAGE:
                    report.add(lines, _verify_page(page))
                    break
                under_way.append((lines, loop.run_in_executor(workers, _verify_page, page)))
                if len(under_way) > _PAGES_AT_ONCE:
                    counted, found = under_way.popleft()
                    report.add(counted, await found)
                after = DecisionId.parse(page[-1].decision_id)
            for counted, found in under_way:
                report.add(counted, await found)
        finally:
            await db.close()
    if order_id is not None and not report.checked:
        raise DecisionNotFound(f"{order_id} was not attributed", field="orderId")
    return report


def _print(report: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if report.checked == 1 and report.last is not None:
        for name, digest in _hashes(report.last):
            console.print(f"{name:<13}{digest}")
    for each in report.differences:
        console.print(
            f"{each.order_id}  {each.what}: {each.stored} is stored, its inputs give {each.recomputed}",
            markup=False,
        )
    left = report.different - len({each.order_id for each in report.differences})
    if left:
        console.print(f"… and {left:,} more orders")
    rate = report.checked / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.checked:,} decisions with {report.lines:,} commission lines decided again in"
        f" {report.seconds:.1f} s ({rate:,.0f}/s): "
        + (f"[bold red]{report.different:,} differ[/]" if report.different else "[bold green]all the same[/]")
    )


def _hashes(found: Verified) -> Sequence[tuple[str, str]]:
    return (
        ("order", found.order_id),
        ("inputs", found.input_hash),
        ("amounts", found.amounts_hash),
        ("result", found.result_hash),
    )
