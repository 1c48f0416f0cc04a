"""Journals for tests, with amounts a reader can add up in his head."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import OrderId, TenantId
from infra.db.session import Database
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, Leg
from tests.fixtures.waiting import until

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


async def horizon_passed(db: Database) -> None:
    """Wait until nothing that began before the newest entry is still open anywhere on the server.

    Statements and roll-ups cut at that horizon, and other test workers share it: the longest of their tests that runs
    in one transaction is waited for.
    """

    async def passed() -> bool:
        async with db.reading(SYSTEM) as session:
            return bool((await session.execute(_PASSED)).scalar_one())

    await until(passed, "a transaction of before the newest entry does not end")
