"""Posting. Only settlement calls this; the database functions do the work and hold every rule.

A transaction that posts more than once uses ``post_many`` (or ``hold`` first): locks are then taken in one
sorted pass, and two such transactions never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import PostgresError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import JournalId
from infra.db.session import Database, driver_connection
from supply.ledger.errors import JournalKeyReused, Overdraft, Unbalanced
from supply.ledger.journal import AccountKey, Journal, merged

_POST = text(
    "SELECT post_journal(:id, :key, :kind, :posted_at, :effective_at, :order_id, :provider_ref, :memo,"
    " CAST(:codes AS integer[]), CAST(:owners AS text[]), CAST(:currencies AS bpchar[]),"
    " CAST(:tenants AS uuid[]), CAST(:amounts AS bigint[]))"
)
_POST_BATCH = text(
    "SELECT ord, journal_id, outcome FROM post_batch(:posted_at, CAST(:ids AS uuid[]), CAST(:keys AS text[]),"
    " CAST(:kinds AS text[]), CAST(:effective_at AS timestamptz[]), CAST(:order_ids AS uuid[]),"
    " CAST(:provider_refs AS text[]), CAST(:memos AS text[]), CAST(:leg_journals AS integer[]),"
    " CAST(:codes AS integer[]), CAST(:owners AS text[]), CAST(:currencies AS bpchar[]),"
    " CAST(:tenants AS uuid[]), CAST(:amounts AS bigint[]))"
)
# The same for the driver: placeholders by number, types from the function.
_POST_COMMITTED = (
    f"SELECT ord, journal_id, outcome FROM post_batch({', '.join(f'${n}' for n in range(1, 15))})"
)
_HOLD = text(
    "SELECT ord, balance_minor FROM hold_balances(CAST(:codes AS integer[]), CAST(:owners AS text[]),"
    " CAST(:currencies AS bpchar[]), CAST(:tenants AS uuid[]))"
)
_ROLL_UP = text("SELECT roll_up_ledger()")
_MAKE_PARTITIONS = text("SELECT make_ledger_partitions(:ahead)")
_MONTHS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one journal of a batch: ``journal_id``, or the ``error`` it was refused with."""

    key: str
    journal_id: JournalId | None
    replayed: bool = False
    error: Overdraft | Unbalanced | JournalKeyReused | None = None


async def post(session: AsyncSession, journal: Journal, *, now: datetime) -> JournalId:
    """Post one journal; the same key with the same body again returns the first one's id and moves nothing.

    Raises ``Overdraft``, ``Unbalanced`` and ``JournalKeyReused``; the transaction is lost then.
    """
    legs = merged(journal.legs)
    values = {
        "id": JournalId.new(), "key": journal.key, "kind": journal.kind, "posted_at": now,
        "effective_at": journal.effective_at, "order_id": journal.order_id,
        "provider_ref": journal.provider_ref, "memo": journal.memo,
        "amounts": [leg.amount_minor for leg in legs], **_columns([leg.account for leg in legs]),
    }  # fmt: skip
    try:
        return JournalId.of((await session.execute(_POST, values)).scalar_one())
    except DBAPIError as error:
        raise _refusal(error, journal.key) from error


async def post_many(session: AsyncSession, journals: Sequence[Journal], *, now: datetime) -> list[Outcome]:
    """Post up to some thousand journals in one statement, each by itself as if one after the other.

    A journal that cannot be posted is refused in its ``Outcome`` and the others are posted; the transaction
    lives on.
    """
    if not journals:
        return []
    rows = await session.execute(_POST_BATCH, _batch(journals, now))
    return [_outcome(journals[row.ord - 1].key, row.journal_id, row.outcome) for row in rows]


async def post_committed(db: Database, journals: Sequence[Journal], *, now: datetime) -> list[Outcome]:
    """``post_many`` in a transaction of its own, in one round trip: committed when it returns.

    The functions of the ledger are their own authority, so the transaction need not say who acts. Raises what
    the driver raises; when the connection was lost it is unknown whether anything was posted.
    """
    if not journals:
        return []
    async with db.engine.connect() as connection:
        driver = await driver_connection(connection)
        try:
            rows = await driver.fetch(_POST_COMMITTED, *_batch(journals, now).values())
        except PostgresError:
            if driver.is_closed():
                await connection.invalidate()
            raise
        except BaseException:
            # Whatever it was doing when it was stopped or lost, nobody else shall get this connection.
            await connection.invalidate()
            raise
    return [_outcome(journals[ord - 1].key, journal_id, outcome) for ord, journal_id, outcome in rows]


async def post_together(
    session: AsyncSession, journals: Sequence[Journal], *, now: datetime
) -> list[JournalId]:
    """``post_many`` for journals that belong together: raises the first refusal; the caller rolls back."""
    ids = []
    for outcome in await post_many(session, journals, now=now):
        if outcome.journal_id is None:
            raise outcome.error or Unbalanced(outcome.key)
        ids.append(outcome.journal_id)
    return ids


async def hold(session: AsyncSession, accounts: Sequence[AccountKey]) -> dict[AccountKey, int]:
    """Lock the strict accounts among these until the transaction ends; what each account holds, in minor
    units on its normal side. Name every strict account the transaction will post to, so that nothing is
    locked later, out of order."""
    distinct = sorted(set(accounts))
    if not distinct:
        return {}
    rows = await session.execute(_HOLD, _columns(distinct))
    return {distinct[row.ord - 1]: row.balance_minor for row in rows}


async def roll_up(db: Database) -> int:
    """Sweep: move the tails of the deferred accounts into their balances. Returns how many moved."""
    async with db.unit_of_work(SYSTEM) as session:
        return int((await session.execute(_ROLL_UP)).scalar_one())


async def make_partitions(db: Database) -> int:
    """Sweep: make the partitions of this month and the next three, in real time. Returns how many it made."""
    async with db.unit_of_work(SYSTEM) as session:
        return int((await session.execute(_MAKE_PARTITIONS, {"ahead": _MONTHS_AHEAD})).scalar_one())


def _batch(journals: Sequence[Journal], now: datetime) -> dict[str, Any]:
    """The arguments of ``post_batch``, by name and in its order."""
    legs = [(place, leg) for place, journal in enumerate(journals, 1) for leg in merged(journal.legs)]
    return {
        "posted_at": now, "ids": [JournalId.new() for _ in journals], "keys": [j.key for j in journals],
        "kinds": [j.kind for j in journals], "effective_at": [j.effective_at for j in journals],
        "order_ids": [j.order_id for j in journals], "provider_refs": [j.provider_ref for j in journals],
        "memos": [j.memo for j in journals], "leg_journals": [place for place, _ in legs],
        **_columns([leg.account for _, leg in legs]), "amounts": [leg.amount_minor for _, leg in legs],
    }  # fmt: skip


def _columns(accounts: Sequence[AccountKey]) -> dict[str, list[Any]]:
    return {
        "codes": [int(account.code) for account in accounts],
        "owners": [account.owner for account in accounts],
        "currencies": [account.currency for account in accounts],
        "tenants": [account.tenant_id for account in accounts],
    }


def _outcome(key: str, journal_id: UUID, outcome: str) -> Outcome:
    match outcome:
        case "posted" | "replayed":
            return Outcome(key, JournalId.of(journal_id), replayed=outcome == "replayed")
        case "ledger_overdraft":
            return Outcome(key, None, error=Overdraft(f"{key} would overdraw an account"))
        case "ledger_key_reused":
            return Outcome(key, None, error=JournalKeyReused(key))
        case _:
            return Outcome(key, None, error=Unbalanced(f"{key} does not balance"))


def _refusal(error: DBAPIError, key: str) -> Exception:
    """The typed error of a refusal by the functions; anything else stays what it is."""
    cause = getattr(error.orig, "__cause__", None)
    constraint, detail = getattr(cause, "constraint_name", None), getattr(cause, "detail", None) or ""
    match constraint:
        case "ledger_key_reused":
            return JournalKeyReused(key)
        case "ledger_unbalanced":
            return Unbalanced(f"{key}: {getattr(cause, 'message', '') or 'does not balance'}")
        case "ledger_overdraft":
            code, currency, available, wanted, owner = detail.split("|", 4)
            return Overdraft(
                f"{owner} has {available} {currency} in {code}, {wanted} are wanted",
                account_code=int(code),
                owner=owner,
                currency=currency,
                available_minor=int(available),
                wanted_minor=int(wanted),
            )
        case _:
            return error
