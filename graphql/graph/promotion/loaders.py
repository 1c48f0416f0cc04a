from __future__ import annotations

from collections.abc import Sequence

from core.ids import AgreementId, LinkId, ProductId, PromoterId
from graph.context import Context
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import ProductRow
from marketplace.promotion import queries
from marketplace.promotion.agreements import history
from marketplace.promotion.agreements.history import StatusChange
from marketplace.promotion.queries import AgreementRow, ClickCounts, PromoterRow, VersionRow


async def agreements(context: Context, ids: Sequence[AgreementId]) -> list[AgreementRow | None]:
    async with context.reading() as session:
        found = await queries.agreements_of(session, context.actor, ids)
    return [found.get(agreement_id) for agreement_id in ids]


async def versions(context: Context, ids: Sequence[AgreementId]) -> list[list[VersionRow]]:
    async with context.reading() as session:
        found = await queries.versions_of(session, ids)
    return [found.get(agreement_id, []) for agreement_id in ids]


async def histories(context: Context, ids: Sequence[AgreementId]) -> list[list[StatusChange]]:
    async with context.reading() as session:
        found = await history.history_of(session, ids)
    return [found.get(agreement_id, []) for agreement_id in ids]


async def clicks(context: Context, ids: Sequence[LinkId]) -> list[ClickCounts]:
    async with context.reading() as session:
        found = await queries.click_counts(session, ids)
    return [found.get(link_id, ClickCounts()) for link_id in ids]


async def promoters(context: Context, ids: Sequence[PromoterId]) -> list[PromoterRow | None]:
    async with context.reading() as session:
        found = await queries.promoters_named(session, context.actor, ids)
    return [found.get(promoter_id) for promoter_id in ids]


async def products(context: Context, ids: Sequence[ProductId]) -> list[ProductRow | None]:
    async with context.reading() as session:
        found = await catalog.products_of(session, context.actor, ids)
    return [found.get(product_id) for product_id in ids]
