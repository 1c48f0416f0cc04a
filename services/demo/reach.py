"""Codes and printed cards of the demo market, drawn from the market itself: the same market has the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.demo.market import Market

_ARMS = ("story", "offer")


@dataclass(frozen=True, slots=True)
class Code:
    """An individual promoter's exclusive code for the whole shop of an advertiser, which pays what it takes off."""

    link: int
    """Index into the market's links: whose code it is."""
    text: str
    rate_ppm: int = 50_000
    max_uses: int = 500


@dataclass(frozen=True, slots=True)
class PrintRun:
    """Parcel cards with the link of one product, in two arms; they lie in parcels of ``sku`` from ``warehouse``."""

    link: int
    sku: str
    warehouse: str
    arms: tuple[str, ...] = _ARMS
    quantity: int = 500


def codes_of(market: Market) -> tuple[Code, ...]:
    """One for every link of a whole shop that a person has."""
    return tuple(
        Code(index, f"{link.promoter[:4].upper()}-{index:02d}")
        for index, link in enumerate(market.links)
        if link.person is not None and not link.product
    )


def code_for(market: Market) -> Mapping[tuple[str, str], int]:
    """Which code (by its place) the people of a community know for an advertiser's goods."""
    return {
        (market.links[code.link].community, market.links[code.link].advertiser): place
        for place, code in enumerate(codes_of(market))
    }


def prints_of(market: Market) -> tuple[PrintRun, ...]:
    """For each community the first link it has on parcel cards."""
    runs: dict[str, PrintRun] = {}
    sources = {offer.sku: supplier.code for supplier in market.suppliers for offer in supplier.offers}
    products = {product.handle: product for brand in market.brands for product in brand.products}
    for index, link in enumerate(market.links):
        if link.product and link.community not in runs:
            sku = products[link.product].variants[0].sku
            runs[link.community] = PrintRun(index, sku, sources[sku])
    return tuple(runs.values())
