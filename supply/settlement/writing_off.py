"""R7c: a debt is given up by two operators, one who asks with a reason and another who decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.errors import Conflict, Invalid, NotFound
from core.ids import TenantId
from core.pagination import Page, PageRequest, page_of
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.ids import WriteOffId
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, platform_account, tenant_of
from supply.settlement.recovery_models import WriteOffStatus

LONGEST_REASON = 500
_INSERT = text(
    "INSERT INTO write_offs (id, payee_id, tenant_id, currency, amount_minor, reason, asked_by, asked_at, status)"
    " VALUES (:id, :payee_id, :tenant_id, :currency, :amount, :reason, :by, :now, 'asked')"
)
_LOCK = text("SELECT * FROM write_offs WHERE id = :id FOR NO KEY UPDATE")
_DECIDE = text("UPDATE write_offs SET status = :status, decided_by = :by, decided_at = :now WHERE id = :id")
_ONE = text("SELECT * FROM write_offs WHERE id = :id")
_PAGE = text(
    "SELECT * FROM write_offs WHERE (CAST(:payee_id AS text) IS NULL OR payee_id = :payee_id)"
    " AND (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)


class ReasonMissing(Invalid):
    code = "REASON_MISSING"


class WriteOffTooLarge(Conflict):
    """More than the party owes."""

    code = "WRITE_OFF_TOO_LARGE"

    def __init__(self, asked: int, owed: int) -> None:
        super().__init__(f"{asked} asked, {owed} owed")
        self.asked, self.owed = asked, owed


class WriteOffNotFound(NotFound):
    code = "WRITE_OFF_NOT_FOUND"

    def __init__(self, write_off_id: WriteOffId) -> None:
        super().__init__(f"no write-off {write_off_id}")
        self.write_off_id = str(write_off_id)


class WriteOffDecided(Conflict):
    code = "WRITE_OFF_DECIDED"

    def __init__(self, write_off_id: WriteOffId, status: str) -> None:
        super().__init__(f"{write_off_id} is {status}")
        self.write_off_id, self.status_now = str(write_off_id), status


class ApproverMustDiffer(Conflict):
    code = "APPROVER_MUST_DIFFER"

    def __init__(self) -> None:
        super().__init__("whoever asked for a write-off cannot approve it")


@dataclass(frozen=True, slots=True)
class WriteOffView:
    id: WriteOffId
    payee_id: str
    currency: str
    amount_minor: int
    reason: str
    status: WriteOffStatus
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None


async def ask_write_off(
    session: AsyncSession,
    actor: Actor,
    payee_id: str,
    currency: str,
    amount_minor: int,
    *,
    reason: str,
    clock: Clock,
    tenant_id: TenantId | None = None,
) -> WriteOffId:
    """Nothing is posted yet. Operators; raises ``ReasonMissing``, ``WriteOffTooLarge``."""
    actor.require("platform:admin")
    if not reason.strip():
        raise ReasonMissing("a debt is given up for a reason", field="reason")
    owed_account = party_account(Code.RECEIVABLE, payee_id, currency, tenant_id)
    owed = (await ledger.hold(session, [owed_account]))[owed_account]
    if not 0 < amount_minor <= owed:
        raise WriteOffTooLarge(amount_minor, owed)
    write_off_id = WriteOffId.new()
    values = {
        "id": write_off_id, "payee_id": payee_id, "tenant_id": tenant_id or tenant_of(payee_id),
        "currency": currency, "amount": amount_minor, "reason": reason[:LONGEST_REASON], "by": str(actor),
        "now": clock.now(),
    }  # fmt: skip
    await session.execute(_INSERT, values)
    return write_off_id


async def decide_write_off(
    session: AsyncSession, actor: Actor, write_off_id: WriteOffId, *, approve: bool, clock: Clock
) -> None:
    """Approve (R7c is posted) or decline. Another operator than the one who asked; raises
    ``WriteOffNotFound``, ``WriteOffDecided``, ``ApproverMustDiffer``, ``WriteOffTooLarge`` when the party has
    paid meanwhile."""
    actor.require("platform:admin")
    row = (await session.execute(_LOCK, {"id": write_off_id})).one_or_none()
    if row is None:
        raise WriteOffNotFound(write_off_id)
    if row.status != WriteOffStatus.ASKED:
        raise WriteOffDecided(write_off_id, row.status)
    if str(actor) == row.asked_by:
        raise ApproverMustDiffer
    if approve:
        memo = f"{row.reason} (asked by {row.asked_by}, approved by {actor})"
        await write_off(
            session, row.payee_id, row.currency, row.amount_minor, reference=str(write_off_id), reason=memo,
            now=clock.now(),
        )  # fmt: skip
    status = WriteOffStatus.APPROVED if approve else WriteOffStatus.DECLINED
    values = {"id": write_off_id, "status": status.value, "by": str(actor), "now": clock.now()}
    await session.execute(_DECIDE, values)


async def write_off(
    session: AsyncSession,
    party: str,
    currency: str,
    amount_minor: int,
    *,
    reference: str,
    reason: str,
    now: datetime,
) -> None:
    """The posting itself. Raises ``WriteOffTooLarge`` for more than the party owes."""
    owed_account = party_account(Code.RECEIVABLE, party, currency)
    owed = (await ledger.hold(session, [owed_account]))[owed_account]
    if amount_minor > owed:
        raise WriteOffTooLarge(amount_minor, owed)
    legs = (
        debit(platform_account(Code.BAD_DEBT, currency), amount_minor),
        credit(owed_account, amount_minor),
    )
    journal = Journal(f"writeoff:{reference}", Kind.WRITE_OFF, legs, now, memo=reason)
    await ledger.post(session, journal, now=now)


async def write_offs_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, payee_id: str | None = None
) -> Page[WriteOffView]:
    """Newest first; a party sees what was given up of its own debt."""
    after = UUID(page.key[0]) if page.key else None
    where = {"payee_id": payee_id, "after": after, "limit": page.first + 1}
    found = [_view(row) for row in await session.execute(_PAGE, where)]
    return page_of(found, page, lambda each: (each.id.hex,))


async def write_off_of(session: AsyncSession, write_off_id: WriteOffId) -> WriteOffView:
    """Raises ``WriteOffNotFound``."""
    row = (await session.execute(_ONE, {"id": write_off_id})).one_or_none()
    if row is None:
        raise WriteOffNotFound(write_off_id)
    return _view(row)


def _view(row: Row[Any]) -> WriteOffView:
    return WriteOffView(
        WriteOffId.of(row.id), row.payee_id, row.currency, row.amount_minor, row.reason,
        WriteOffStatus(row.status), row.asked_by, row.asked_at, row.decided_by, row.decided_at,
    )  # fmt: skip
