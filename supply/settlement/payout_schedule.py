"""Who is paid when: a party's payout follows its closed statement.

Payable is what the statement says is available, as far as it still is (refunds since then came first), less the
party's rolling reserve. Below the minimum nothing is paid and everything is carried, what is owed included (cps.md
R8): it stays in the party's accounts. A statement of a party without an active account at the provider waits.

A reserve is no account of its own: money that is kept back stays available to the party's refunds and debts, which
is what it is kept for (docs/decisions/0016-statements-and-payouts.md).
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import TenantId
from core.money import rate_of
from infra.db.session import Database
from supply.settlement.kinds import Kind
from supply.settlement.parties import owner_of
from supply.settlement.payouts import Payable, batch_of, reserve_payouts

PARTIES_AT_ONCE = 200

_WAITING = text(
    "SELECT t.payee_id, t.currency FROM settlement_terms t"
    " WHERE EXISTS (SELECT FROM statements s WHERE s.payee_id = t.payee_id AND s.currency = t.currency"
    "  AND s.decided_at IS NULL)"
    " AND EXISTS (SELECT FROM payees p WHERE p.payee_id = t.payee_id AND p.currency = t.currency"
    "  AND p.status = 'active') ORDER BY t.payee_id, t.currency LIMIT :limit FOR NO KEY UPDATE OF t SKIP LOCKED"
)
_LATEST = text(
    "SELECT s.payee_id, s.currency, s.tenant_id, s.number, s.period_to, s.available_minor, t.reserve_ppm,"
    " t.reserve_days FROM unnest(CAST(:payees AS text[]), CAST(:currencies AS bpchar[])) AS w (payee_id, currency)"
    " JOIN settlement_terms t USING (payee_id, currency) CROSS JOIN LATERAL (SELECT * FROM statements s"
    "  WHERE s.payee_id = w.payee_id AND s.currency = w.currency AND s.decided_at IS NULL"
    "  ORDER BY s.number DESC LIMIT 1) s ORDER BY s.payee_id, s.currency"
)
_DECIDED = text(
    "UPDATE statements s SET decided_at = :now FROM unnest(CAST(:payees AS text[]), CAST(:currencies AS bpchar[]),"
    " CAST(:numbers AS int[])) AS n (payee_id, currency, number) WHERE s.payee_id = n.payee_id"
    " AND s.currency = n.currency AND s.number <= n.number AND s.decided_at IS NULL"
)
_RELEASED = text(
    "SELECT coalesce(-sum(e.amount_minor), 0)::bigint FROM ledger_accounts a"
    " JOIN ledger_entries e ON e.account_id = a.id JOIN ledger_journals j ON j.id = e.journal_id"
    " WHERE a.code = 2010 AND a.owner = :owner AND a.currency = :currency AND j.kind = :kind"
    " AND j.posted_at > :since"
)


async def pay_statements(db: Database, *, clock: Clock) -> int:
    """Sweep: reserve the payouts of closed statements, up to ``PARTIES_AT_ONCE`` parties; how many it went
    through. Any number may run: a party's terms are its lock, and a batch pays each party once.
    """
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_WAITING, {"limit": PARTIES_AT_ONCE})).all()
        if not rows:
            return 0
        asked = {"payees": [row.payee_id for row in rows], "currencies": [row.currency for row in rows]}
        statements = (await session.execute(_LATEST, asked)).all()
        by_period: dict[datetime, list[Any]] = defaultdict(list)
        for statement in statements:
            by_period[statement.period_to].append(statement)
        for period_to, due in sorted(by_period.items()):
            cycle = f"statements:{period_to:%Y-%m-%dT%H:%MZ}"
            payables = [await _payable(session, statement, now) for statement in due]
            await reserve_payouts(session, await batch_of(session, cycle, now=now), cycle, payables, now=now)
        decided = {
            "payees": [s.payee_id for s in statements], "currencies": [s.currency for s in statements],
            "numbers": [s.number for s in statements], "now": now,
        }  # fmt: skip
        await session.execute(_DECIDED, decided)
    return len(statements)


async def _payable(session: AsyncSession, statement: Any, now: datetime) -> Payable:
    tenant = TenantId.of(statement.tenant_id) if statement.tenant_id else None
    kept = 0
    if statement.reserve_ppm and statement.reserve_days:
        kept = await reserve_of(
            session,
            statement.payee_id,
            statement.currency,
            ppm=statement.reserve_ppm,
            since=now - timedelta(days=statement.reserve_days),
        )
    return Payable(statement.payee_id, statement.currency, tenant, statement.available_minor, kept)


async def reserve_of(
    session: AsyncSession, payee_id: str, currency: str, *, ppm: int, since: datetime
) -> int:
    """``ppm`` of what was released to a party after ``since``, in minor units: so much must stay available."""
    where = {
        "owner": owner_of(payee_id), "currency": currency, "kind": Kind.RELEASE.value, "since": since,
    }  # fmt: skip
    released = int((await session.execute(_RELEASED, where)).scalar_one())
    return rate_of(max(released, 0), ppm)
