"""What a storefront may show: its brand's own products, and its partners' within their agreements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, ProductId
from infra.search.index import Shelf
from marketplace.promotion import queries as promotion
from marketplace.promotion.agreements.terms import Scope


@dataclass(frozen=True, slots=True)
class OnSale:
    """``partners``: the scopes of the agreements in force, by the brand whose products they open."""

    own: BrandId
    partners: Mapping[BrandId, Sequence[Scope]]

    @property
    def shelves(self) -> list[Shelf]:
        """The same, as the search index takes it."""
        own = [Shelf(self.own)]
        return own + [
            _shelf(brand_id, scope) for brand_id, scopes in self.partners.items() for scope in scopes
        ]

    def covers(self, brand_id: BrandId, product_id: ProductId, category: str, skus: Sequence[str]) -> bool:
        """Whether the product (with ``skus``: any of these variants of it) may be shown and sold."""
        if brand_id == self.own:
            return True
        return any(scope.covers(product_id, category, skus) for scope in self.partners.get(brand_id, ()))


async def on_sale(session: AsyncSession, storefront_brand_id: BrandId, *, at: datetime) -> OnSale:
    """One statement. The session's tenant must be that brand, or the platform."""
    partners: dict[BrandId, list[Scope]] = defaultdict(list)
    for sellable in await promotion.sellable_through(session, storefront_brand_id, at):
        partners[sellable.advertiser_id].append(sellable.scope)
    return OnSale(storefront_brand_id, partners)


def _shelf(brand_id: BrandId, scope: Scope) -> Shelf:
    if scope.everything:
        return Shelf(brand_id)
    return Shelf(
        brand_id,
        product_ids=tuple(sorted(scope.products)),
        categories=tuple(sorted(scope.categories)),
        skus=tuple(sorted(scope.skus)),
    )
