"""A party contests a line of its statement (cps.md §2): the other side answers, the platform rules if it must.

OPEN → ADVERTISER_REPLY → ESCALATED → RULED; UPHELD when the other side accepts, REJECTED when the contester lets its
answer stand. Five working days for each step, silence loses; only within thirty days of the statement's close. What
is granted is an adjustment in the next statement: a closed one never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import CheckConstraint, Index, String, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.errors import Conflict, Invalid, NotFound
from core.ids import StatementId, TenantId
from core.money import MAX_MINOR
from core.pagination import Page, PageRequest, page_of
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from infra.db.session import Database
from supply.settlement.adjustments import adjust
from supply.settlement.errors import StatementNotFound
from supply.settlement.ids import ContestId
from supply.settlement.parties import tenant_of

CONTESTABLE_FOR = timedelta(days=30)
WORKING_DAYS = 5
LONGEST_TEXT = 4_000
SILENCE = "silence"


class ContestStatus(StrEnum):
    OPEN = "OPEN"
    ADVERTISER_REPLY = "ADVERTISER_REPLY"
    ESCALATED = "ESCALATED"
    UPHELD = "UPHELD"
    REJECTED = "REJECTED"
    RULED = "RULED"


class StatementState(StrEnum):
    CLOSED = "CLOSED"
    DISPUTED = "DISPUTED"
    FINAL = "FINAL"
    """Nobody can contest it any more, and nobody does."""


class ContestNotFound(NotFound):
    code = "CONTEST_NOT_FOUND"


class ContestInvalid(Invalid):
    code = "CONTEST_INVALID"


class ContestTooLate(Conflict):
    """The statement was closed more than thirty days ago."""

    code = "CONTEST_TOO_LATE"


class ContestMoved(Conflict):
    """It is not this party's turn, or the contest has ended."""

    code = "CONTEST_MOVED"


class AlreadyContested(Conflict):
    code = "ALREADY_CONTESTED"


class StatementContest(Row, table=True):
    """``claimed_minor`` is what ``against`` should have paid ``payee_id`` beyond what the entry says."""

    __tablename__ = "statement_contests"
    __table_args__ = (
        Index("uq_statement_contests_statement_id_entry", "statement_id", "entry", unique=True),
        Index(
            "ix_statement_contests_due_at",
            "due_at",
            postgresql_where=text("status IN ('OPEN', 'ADVERTISER_REPLY')"),
        ),
        Index("ix_statement_contests_tenant_id", "tenant_id"),
        Index("ix_statement_contests_against_tenant_id", "against_tenant_id"),
        one_of("status", ContestStatus),
        CheckConstraint("claimed_minor > 0 AND granted_minor BETWEEN 0 AND claimed_minor", name="amounts"),
    )

    id: ContestId = id_field(ContestId, primary_key=True)
    statement_id: StatementId = id_field(StatementId, foreign_key="statements.id")
    entry: str
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    against: str
    against_tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    claimed_minor: int = minor_field()
    granted_minor: int = minor_field()
    status: ContestStatus = Field(sa_type=String)
    reason: str
    reply: str
    escalation: str
    ruling: str
    decided_by: str
    opened_at: datetime = utc_field()
    due_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)


_STATEMENT = text("SELECT payee_id, tenant_id, currency, document, closed_at FROM statements WHERE id = :id")
_INSERT = text(
    "INSERT INTO statement_contests (id, statement_id, entry, payee_id, tenant_id, against, against_tenant_id,"
    " currency, claimed_minor, granted_minor, status, reason, reply, escalation, ruling, decided_by, opened_at,"
    " due_at) VALUES (:id, :statement_id, :entry, :payee_id, :tenant_id, :against, :against_tenant_id, :currency,"
    " :claimed, 0, 'OPEN', :reason, '', '', '', '', :now, :due_at)"
    " ON CONFLICT (statement_id, entry) DO NOTHING RETURNING id"
)
_LOCK = text("SELECT * FROM statement_contests WHERE id = :id FOR NO KEY UPDATE")
_MOVE = text(
    "UPDATE statement_contests SET status = :status, due_at = :due_at, reply = :reply, escalation = :escalation,"
    " ruling = :ruling, decided_by = :decided_by, granted_minor = :granted, ended_at = :ended_at WHERE id = :id"
)
_OVERDUE = text(
    "SELECT * FROM statement_contests WHERE status IN ('OPEN', 'ADVERTISER_REPLY') AND due_at <= :now"
    " ORDER BY id LIMIT 50 FOR NO KEY UPDATE SKIP LOCKED"
)
_ONE = text("SELECT * FROM statement_contests WHERE id = :id")
_PAGE = text(
    "SELECT * FROM statement_contests WHERE (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)
_STATES = text(
    "SELECT s.id, s.closed_at, EXISTS (SELECT FROM statement_contests c WHERE c.statement_id = s.id"
    " AND c.ended_at IS NULL) AS contested FROM statements s WHERE s.id = ANY(:ids)"
)


@dataclass(frozen=True, slots=True)
class ContestView:
    id: ContestId
    statement_id: StatementId
    entry: str
    payee_id: str
    against: str
    currency: str
    claimed_minor: int
    granted_minor: int
    status: ContestStatus
    reason: str
    reply: str
    ruling: str
    due_at: datetime
    ended_at: datetime | None


def after_working_days(at: datetime, days: int) -> datetime:
    """``days`` working days later (Monday to Friday, UTC), at the same time of day."""
    moment = at.astimezone(UTC)
    while days:
        moment += timedelta(days=1)
        days -= moment.weekday() < 5
    return moment


async def contest(
    session: AsyncSession,
    payee_id: str,
    statement_id: StatementId,
    *,
    entry: str,
    claimed_minor: int,
    reason: str,
    now: datetime,
) -> ContestView:
    """A party says that an entry of its statement should have been more, at the cost of who it came from.

    Raises ``StatementNotFound`` for one that is not its own, ``ContestTooLate``, ``ContestInvalid``,
    ``AlreadyContested``.
    """
    statement = (await session.execute(_STATEMENT, {"id": statement_id})).one_or_none()
    if statement is None or statement.payee_id != payee_id:
        raise StatementNotFound(statement_id)
    if now > statement.closed_at + CONTESTABLE_FOR:
        raise ContestTooLate(f"closed at {statement.closed_at.isoformat()}")
    against = _other_side(statement.document, entry)
    _checked(reason)
    if not 0 < claimed_minor <= MAX_MINOR:
        raise ContestInvalid("an amount above zero", field="claimed")
    values = {
        "id": ContestId.new(), "statement_id": statement_id, "entry": entry, "payee_id": payee_id,
        "tenant_id": statement.tenant_id, "against": against, "against_tenant_id": tenant_of(against),
        "currency": statement.currency, "claimed": claimed_minor, "reason": reason, "now": now,
        "due_at": after_working_days(now, WORKING_DAYS),
    }  # fmt: skip
    if (await session.execute(_INSERT, values)).first() is None:
        raise AlreadyContested("this entry is contested already")
    return _view((await session.execute(_LOCK, {"id": values["id"]})).one())


def _other_side(document: str, entry: str) -> str:
    for section in orjson.loads(document)["sections"]:
        for line in section["lines"]:
            if line["entry"] == entry:
                if tenant_of(line["counterparty"]) is None:
                    raise ContestInvalid("nobody but the platform stands behind it", field="entry")
                return str(line["counterparty"])
    raise ContestInvalid("no such entry in this statement", field="entry")


async def answer_contest(
    session: AsyncSession, party: str, contest_id: ContestId, *, accept: bool, reply: str, now: datetime
) -> ContestView:
    """The other side accepts (it is upheld at once) or says why not. Raises ``ContestNotFound``, ``ContestMoved``."""
    row = await _turn(session, contest_id, party, "against", ContestStatus.OPEN)
    _checked(reply)
    if accept:
        words = {"reply": reply}
        return await _end(
            session, row, ContestStatus.UPHELD, row.claimed_minor, by=party, now=now, words=words
        )
    due_at = after_working_days(now, WORKING_DAYS)
    return await _move(session, row, ContestStatus.ADVERTISER_REPLY, due_at=due_at, words={"reply": reply})


async def escalate_contest(
    session: AsyncSession, party: str, contest_id: ContestId, *, escalation: str, now: datetime
) -> ContestView:
    """The contester does not let the answer stand: the platform rules. Raises as ``answer_contest``."""
    row = await _turn(session, contest_id, party, "payee_id", ContestStatus.ADVERTISER_REPLY)
    _checked(escalation)
    due_at = after_working_days(now, WORKING_DAYS)
    return await _move(session, row, ContestStatus.ESCALATED, due_at=due_at, words={"escalation": escalation})


async def rule_contest(
    session: AsyncSession,
    contest_id: ContestId,
    *,
    granted_minor: int,
    ruling: str,
    ruled_by: str,
    now: datetime,
) -> ContestView:
    """The platform grants all, a part or nothing. Raises ``ContestNotFound``, ``ContestMoved``, ``ContestInvalid``."""
    row = await _turn(session, contest_id, None, "", ContestStatus.ESCALATED)
    _checked(ruling)
    if not 0 <= granted_minor <= row.claimed_minor:
        raise ContestInvalid(f"0 to {row.claimed_minor}", field="granted")
    words = {"ruling": ruling}
    return await _end(session, row, ContestStatus.RULED, granted_minor, by=ruled_by, now=now, words=words)


async def end_silent_contests(db: Database, *, clock: Clock) -> int:
    """Sweep: whoever had to speak and did not has lost. How many contests that ended."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_OVERDUE, {"now": now})).all()
        for row in rows:
            upheld = row.status == ContestStatus.OPEN
            status = ContestStatus.UPHELD if upheld else ContestStatus.REJECTED
            await _end(session, row, status, row.claimed_minor if upheld else 0, by=SILENCE, now=now)
    return len(rows)


async def contest_of(session: AsyncSession, contest_id: ContestId) -> ContestView:
    """Raises ``ContestNotFound``."""
    row = (await session.execute(_ONE, {"id": contest_id})).one_or_none()
    if row is None:
        raise ContestNotFound("no such contest")
    return _view(row)


async def contests_page(session: AsyncSession, actor: Actor, page: PageRequest) -> Page[ContestView]:
    """Newest first: those a party opened and those against it; the platform sees all."""
    after = UUID(page.key[0]) if page.key else None
    rows = (await session.execute(_PAGE, {"after": after, "limit": page.first + 1})).all()
    return page_of([_view(row) for row in rows], page, lambda view: (view.id.hex,))


async def statement_states(
    session: AsyncSession, statement_ids: list[StatementId], *, now: datetime
) -> dict[StatementId, StatementState]:
    states = {}
    for row in await session.execute(_STATES, {"ids": statement_ids}):
        final = now > row.closed_at + CONTESTABLE_FOR
        state = StatementState.FINAL if final else StatementState.CLOSED
        states[StatementId.of(row.id)] = StatementState.DISPUTED if row.contested else state
    return states


def _checked(words: str) -> None:
    if not 0 < len(words.strip()) <= LONGEST_TEXT:
        raise ContestInvalid(f"1 to {LONGEST_TEXT} characters", field="text")


async def _turn(
    session: AsyncSession, contest_id: ContestId, party: str | None, side: str, status: ContestStatus
) -> Any:
    row = (await session.execute(_LOCK, {"id": contest_id})).one_or_none()
    if row is None or (party is not None and party not in (row.payee_id, row.against)):
        raise ContestNotFound("no such contest")
    if row.status != status or (party is not None and getattr(row, side) != party):
        raise ContestMoved(f"the contest is {row.status}")
    return row


async def _end(
    session: AsyncSession,
    row: Any,
    status: ContestStatus,
    granted_minor: int,
    *,
    by: str,
    now: datetime,
    words: Mapping[str, str] | None = None,
) -> ContestView:
    if granted_minor:
        contest_id = ContestId.of(row.id)
        await adjust(
            session, debtor=row.against, creditor=row.payee_id, currency=row.currency,
            amount_minor=granted_minor, reference=str(contest_id), reason=f"{contest_id}: {row.reason}"[:200],
            approved_by=by, now=now, debtor_tenant=_tenant(row.against_tenant_id),
            creditor_tenant=_tenant(row.tenant_id),
        )  # fmt: skip
    return await _move(session, row, status, granted=granted_minor, by=by, ended_at=now, words=words)


async def _move(
    session: AsyncSession,
    row: Any,
    status: ContestStatus,
    *,
    due_at: datetime | None = None,
    granted: int = 0,
    by: str = "",
    ended_at: datetime | None = None,
    words: Mapping[str, str] | None = None,
) -> ContestView:
    said = words or {}
    values = {
        "id": row.id, "status": status.value, "due_at": due_at or row.due_at, "granted": granted,
        "decided_by": by, "ended_at": ended_at,
        **{name: said.get(name, getattr(row, name)) for name in ("reply", "escalation", "ruling")},
    }  # fmt: skip
    await session.execute(_MOVE, values)
    return _view((await session.execute(_LOCK, {"id": row.id})).one())


def _tenant(value: Any) -> TenantId | None:
    return TenantId.of(value) if value else None


def _view(row: Any) -> ContestView:
    return ContestView(
        ContestId.of(row.id), StatementId.of(row.statement_id), row.entry, row.payee_id, row.against,
        row.currency, row.claimed_minor, row.granted_minor, ContestStatus(row.status), row.reason, row.reply,
        row.ruling, row.due_at, row.ended_at,
    )  # fmt: skip
