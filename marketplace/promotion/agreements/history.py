"""What became of an agreement, step by step: who paused or ended it, when and why. Both brands see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, BrandId
from infra.db.base import table_of
from marketplace.promotion.models import AgreementStatus, AgreementStatusChange

_C = table_of(AgreementStatusChange).c


@dataclass(frozen=True, slots=True)
class StatusChange:
    """``by`` is ``None`` where the platform, or the day that was agreed, changed it. ``reason`` may be empty."""

    agreement_id: AgreementId
    status: AgreementStatus
    reason: str
    by: BrandId | None
    at: datetime


async def history_of(
    session: AsyncSession, agreement_ids: Sequence[AgreementId]
) -> dict[AgreementId, list[StatusChange]]:
    """Of agreements the caller was allowed, oldest first. One statement."""
    rows = await session.execute(
        select(_C.agreement_id, _C.status, _C.reason, _C.changed_by, _C.changed_at)
        .where(_C.agreement_id.in_(agreement_ids))
        .order_by(_C.agreement_id, _C.position)
    )
    found: dict[AgreementId, list[StatusChange]] = {}
    for row in rows:
        by = BrandId.parse(row.changed_by) if row.changed_by.startswith(f"{BrandId.prefix}_") else None
        change = StatusChange(row.agreement_id, AgreementStatus(row.status), row.reason, by, row.changed_at)
        found.setdefault(row.agreement_id, []).append(change)
    return found
