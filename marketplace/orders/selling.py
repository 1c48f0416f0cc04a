"""What a storefront may sell: its brand's own products, and its partners' within their agreements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId
from core.money import PPM, rate_of
from marketplace.catalog.queries import VariantForSale
from marketplace.promotion import queries as promotion
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

    def promised_ppm(self, variant: VariantForSale) -> int:
        """The part of this variant's price that the storefront's brand itself is promised as commission, at a rate:
        what an amount a piece comes to is known with the quantity only."""
        return max(
            [
                rate_of(rate_of(rule.rate_ppm, PPM - terms.fee_ppm), PPM - terms.individual_ppm)
                for terms in self.terms.get(variant.brand_id, ())
                for rule in terms.rules
                if rule.fixed is None
                and replace(terms, rules=(rule,)).scope.covers(
                    variant.product_id, variant.category, (variant.sku,)
                )
            ],
            default=0,
        )


async def sellable(session: AsyncSession, brand_id: BrandId, *, at: datetime) -> Sellable:
    """One statement."""
    scopes: dict[BrandId, list[Scope]] = defaultdict(list)
    terms: dict[BrandId, list[Terms]] = defaultdict(list)
    for found in await promotion.sellable_through(session, brand_id, at):
        scopes[found.advertiser_id].append(found.scope)
        terms[found.advertiser_id].append(found.terms)
    return Sellable(brand_id, scopes, terms)
