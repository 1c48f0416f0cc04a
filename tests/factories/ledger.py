"""Journals for tests, with amounts a reader can add up in his head."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import OrderId, TenantId
from infra.db.session import Database
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, Leg

_PASSED = text(
    "SELECT coalesce(max(txid) < pg_snapshot_xmin(pg_current_snapshot()), true) FROM ledger_entries"
)
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def pending(party: str, *, currency: str = "CNY", tenant_id: TenantId | None = None) -> AccountKey:
    return AccountKey(Code.PENDING, f"party:{party}", currency, tenant_id)


def available(party: str, *, currency: str = "CNY", tenant_id: TenantId | None = None) -> AccountKey:
    return AccountKey(Code.AVAILABLE, f"party:{party}", currency, tenant_id)


def provider(currency: str = "CNY") -> AccountKey:
    return AccountKey(Code.PROVIDER_PENDING, "psp:stripe", currency)


def earning(key: str, account: AccountKey, amount_minor: int, *, order_id: OrderId | None = None) -> Journal:
    """The provider owes us ``amount_minor`` and we owe it to the party."""
    legs = (Leg(provider(account.currency), amount_minor), Leg(account, -amount_minor))
    return Journal(key, "capture", legs, NOON, order_id=order_id)


def arriving(key: str, amount_minor: int, currency: str = "CNY") -> Journal:
    """R3: what the provider owed us it now has for us."""
    there = AccountKey(Code.PROVIDER_AVAILABLE, "psp:stripe", currency)
    legs = (Leg(there, amount_minor), Leg(provider(currency), -amount_minor))
    return Journal(key, "funds_available", legs, NOON)


def moving(key: str, source: AccountKey, target: AccountKey, amount_minor: int) -> Journal:
    return Journal(key, "release", (Leg(source, amount_minor), Leg(target, -amount_minor)), NOON)


async def horizon_passed(db: Database, *, patience_s: float = 60.0) -> None:
    """Wait until nothing that began before the newest entry is still open anywhere on the server.

    Statements and roll-ups cut at that horizon, and other test workers share it.
    """
    async with asyncio.timeout(patience_s):
        while True:
            async with db.reading(SYSTEM) as session:
                if (await session.execute(_PASSED)).scalar_one():
                    return
            await asyncio.sleep(0.05)
