"""What a storefront may sell: its brand's own products, and its partners' within their agreements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId
from marketplace.catalog.queries import VariantForSale
from marketplace.promotion import queries as promotion
from marketplace.promotion.agreements.promises import Promise, promise
from marketplace.promotion.agreements.terms import Scope, Terms

_PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Sellable:
    own: BrandId
    scopes: Mapping[BrandId, Sequence[Scope]]
    """By partner brand, the scopes of the agreements in force."""
    terms: Mapping[BrandId, Sequence[Terms]]

    @property
    def brands(self) -> list[BrandId]:
        return [self.own, *self.scopes]

    def covers(self, variant: VariantForSale) -> bool:
        if variant.product_status != _PUBLISHED:
            return False
        if variant.brand_id == self.own:
            return True
        scopes = self.scopes.get(variant.brand_id, ())
        return any(scope.covers(variant.product_id, variant.category, (variant.sku,)) for scope in scopes)

    def promises(self, variant: VariantForSale) -> list[Promise]:
        """What each agreement pays for this variant in its price's currency."""
        currency = None if variant.price is None else variant.price.currency
        found = [
            promise(terms, variant.product_id, variant.category, variant.sku, currency=currency)
            for terms in self.terms.get(variant.brand_id, ())
        ]
        return [each for each in found if each is not None]


async def sellable(session: AsyncSession, brand_id: BrandId, *, at: datetime) -> Sellable:
    """One statement."""
    scopes: dict[BrandId, list[Scope]] = defaultdict(list)
    terms: dict[BrandId, list[Terms]] = defaultdict(list)
    for found in await promotion.sellable_through(session, brand_id, at):
        scopes[found.advertiser_id].append(found.scope)
        terms[found.advertiser_id].append(found.terms)
    return Sellable(brand_id, scopes, terms)
