from __future__ import annotations

from dataclasses import dataclass

from core.events import Event, event
from core.ids import BrandId, ProductId


@event("catalog.product_changed")
@dataclass(frozen=True, slots=True)
class ProductChanged(Event):
    """Something of a product, its variants or prices is different, or whether it is on view."""

    product_id: ProductId
    brand_id: BrandId


@event("catalog.products_changed")
@dataclass(frozen=True, slots=True)
class ProductsChanged(Event):
    """``ProductChanged`` for many at once, up to 200: an import tells of thousands."""

    product_ids: tuple[ProductId, ...]
    brand_id: BrandId
