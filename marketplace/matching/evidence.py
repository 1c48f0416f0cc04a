"""What members bought: counts over the sales this brand took part in, nobody else's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, CommunityId, ProductId
from marketplace.matching.scoring import MOST_COMPANIONS, CompanionPart

_MOST_ANCHORS = 20
_MINE = "(merchant_id = :brand OR seller_id = :brand)"
_HERE = text(
    "SELECT community_id, product_id, count(DISTINCT buyer) AS buyers,"
    " grouping(product_id) AS is_total FROM purchase_facts"
    f" WHERE community_id = ANY(:communities) AND {_MINE}"
    " GROUP BY GROUPING SETS ((community_id, product_id), (community_id))"
)
_ANYWHERE = text(
    "SELECT product_id, count(DISTINCT buyer) AS buyers FROM purchase_facts"
    f" WHERE {_MINE} GROUP BY GROUPING SETS ((product_id), ())"
)
_TOGETHER = text(
    "WITH mine AS (SELECT DISTINCT buyer, product_id FROM purchase_facts WHERE " + _MINE + ")"
    " SELECT a.product_id AS anchor, b.product_id AS other, count(*) AS buyers FROM mine a"
    " JOIN mine b ON b.buyer = a.buyer AND b.product_id <> a.product_id"
    " WHERE a.product_id = ANY(:anchors) AND (:any_other OR b.product_id = ANY(:others))"
    " GROUP BY a.product_id, b.product_id"
)


@dataclass(slots=True)
class Bought:
    """Distinct buyers: by product in one community, and in all."""

    by_product: dict[ProductId, int] = field(default_factory=dict)
    buyers: int = 0

    def anchors(self) -> list[ProductId]:
        """What is bought most here: the products whose companions are looked at."""
        most = sorted(self.by_product, key=lambda product: (-self.by_product[product], product))
        return most[:_MOST_ANCHORS]


@dataclass(frozen=True, slots=True)
class Sales:
    """``here`` by community, ``anywhere`` over all sales of the brand, ``together`` by (bought, also bought)."""

    here: Mapping[CommunityId, Bought]
    anywhere: Bought
    together: Mapping[tuple[ProductId, ProductId], int]

    def companions(self, community_id: CommunityId, product_id: ProductId) -> tuple[CompanionPart, ...]:
        """The products of this community that most often go with the proposed one."""
        here, found = self.here.get(community_id), []
        for anchor in here.anchors() if here else ():
            both = self.together.get((anchor, product_id), 0)
            if both and here is not None:
                found.append(
                    CompanionPart(
                        str(anchor),
                        here.by_product[anchor],
                        both,
                        self.anywhere.by_product[anchor],
                        self.anywhere.by_product[product_id],
                    )
                )
        found.sort(key=lambda part: (-part.community_buyers * part.bought_both, part.product_id))
        return tuple(found[:MOST_COMPANIONS])


async def sales_of(
    session: AsyncSession,
    brand_id: BrandId,
    communities: Sequence[CommunityId],
    *,
    products: Iterable[ProductId] | None = None,
) -> Sales:
    """Counts for these communities. ``products`` narrows what may be proposed. Three statements."""
    here: dict[CommunityId, Bought] = {}
    for row in await session.execute(_HERE, {"communities": list(communities), "brand": brand_id}):
        bought = here.setdefault(CommunityId.of(row.community_id), Bought())
        if row.is_total:
            bought.buyers = row.buyers
        else:
            bought.by_product[ProductId.of(row.product_id)] = row.buyers
    anywhere = Bought()
    for row in await session.execute(_ANYWHERE, {"brand": brand_id}):
        if row.product_id is None:
            anywhere.buyers = row.buyers
        else:
            anywhere.by_product[ProductId.of(row.product_id)] = row.buyers
    anchors = sorted({anchor for bought in here.values() for anchor in bought.anchors()})
    together: dict[tuple[ProductId, ProductId], int] = {}
    if anchors:
        only = {
            "brand": brand_id, "anchors": anchors, "any_other": products is None,
            "others": list(products or ()),
        }  # fmt: skip
        for row in await session.execute(_TOGETHER, only):
            together[ProductId.of(row.anchor), ProductId.of(row.other)] = row.buyers
    return Sales(here, anywhere, together)
