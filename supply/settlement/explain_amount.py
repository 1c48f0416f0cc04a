"""Why one entry of a party's account is what it is: the rule, the whole journal, and the order lines behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.errors import NotFound
from core.ids import JournalId, MalformedId
from infra.db.session import Database, driver_connection
from supply.ledger.entries import EntryLine, journal_entries
from supply.settlement.parties import owner_of, party_of
from supply.settlement.recipes import Recipe, recipe_of
from supply.settlement.statements import entries
from supply.settlement.statements.lines import Line, lines_of

PARTY = owner_of("")


class EntryNotFound(NotFound):
    code = "ENTRY_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class AmountExplained:
    """``lines`` are those that the party's statement has for the journal, as (section, line); together they are all
    that it did to the party. ``journal`` holds the legs the actor may see, all of them for the platform."""

    entry: EntryLine
    recipe: Recipe
    journal: Sequence[EntryLine]
    lines: Sequence[tuple[str, Line]]


def entry_name(line: EntryLine) -> str:
    """What an entry is called outside: its journal and its leg, as on statements."""
    return f"{line.journal_id}/{line.leg}"


async def explain_amount(db: Database, actor: Actor, name: str) -> AmountExplained:
    """``name`` as statements and the entries' list give it. Raises ``EntryNotFound`` for what ``actor`` may not see.

    Who sees an entry may know what its statement will say of it, so that is read with the platform's eyes: a
    promoter's commission rests on a line of the merchant's order. At most five statements.
    """
    journal_id, leg = _parsed(name)
    async with db.reading(actor) as session:
        journal = await journal_entries(session, journal_id)
    entry = next((line for line in journal if line.leg == leg), None)
    if entry is None:
        raise EntryNotFound(f"no entry {name[:64]!r}", field="id")
    lines: list[tuple[str, Line]] = []
    if entry.owner.startswith(PARTY):
        async with db.reading(SYSTEM) as session:
            lines = await _lines(session, entry)
    return AmountExplained(entry, recipe_of(entry.kind), journal, lines)


def _parsed(name: str) -> tuple[JournalId, int]:
    journal, _, leg = name.partition("/")
    if not (leg.isascii() and leg.isdigit() and len(leg) < 6):
        raise MalformedId(name, "jrn_…/leg")
    return JournalId.parse(journal), int(leg)


async def _lines(session: AsyncSession, entry: EntryLine) -> list[tuple[str, Line]]:
    payee_id = party_of(entry.owner)
    connection: Any = await driver_connection(session)
    rows, about = await entries.read_journal(connection, entry.journal_id, payee_id)
    return list(lines_of(payee_id, rows, about))
