from __future__ import annotations

from collections.abc import Sequence

from core.ids import TenantId
from graph.context import Context
from marketplace.brands import queries
from marketplace.brands.queries import TenantName


async def tenant_names(context: Context, ids: Sequence[TenantId]) -> list[TenantName | None]:
    """Names of counterparties whose ids the document already shows."""
    async with context.reading() as session:
        found = await queries.tenant_names(session, ids)
    return [found.get(tenant_id) for tenant_id in ids]
