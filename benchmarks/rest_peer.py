"""The yardstick beside GraphQL: the same list with the same statements, as FastAPI and orjson would serve it.

No schema, no validation of the answer, one dictionary per product; only for benchmarks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

from core.money import Money
from core.pagination import decode_cursor, encode_cursor
from infra.search.filters import And, Exists, Field
from infra.search.index import SearchQuery
from marketplace.catalog.listing import ListedProduct, ListedVariant, listing
from marketplace.matching.shelves import on_sale
from services.api.auth import Authenticator
from services.wiring import make_gateways, read_settings


def create_app() -> FastAPI:
    gateways = make_gateways(read_settings())
    authenticator = Authenticator(gateways)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await gateways.db.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/products")
    async def products(request: Request, first: int = 20, after: str | None = None) -> Response:
        actor, storefront = await authenticator.storefront(request)
        now = gateways.clock.now()
        async with gateways.db.reading(actor) as session:
            sale = await on_sale(session, storefront.brand_id, at=now)
            query = SearchQuery(
                shelves=sale.shelves, currency=storefront.currency, locale=storefront.locale,
                filter=And((Exists(Field.PRICE),)), first=first,
                after=decode_cursor(after) if after else None,
            )  # fmt: skip
            found = await gateways.search.search(session, query)
            ids = [hit.product_id for hit in found.hits]
            shown = await listing(
                session, ids, currency=storefront.currency, zone=storefront.country, now=now
            )
        nodes = [_product(shown[product_id]) for product_id in ids]
        end = encode_cursor(*found.hits[-1].key) if found.hits else None
        page = {"nodes": nodes, "pageInfo": {"hasNextPage": found.has_next, "endCursor": end}}
        return Response(orjson.dumps({"data": {"products": page}}), media_type="application/json")

    return app


def _product(row: ListedProduct) -> dict[str, Any]:
    prices = [variant.price for variant in row.variants if variant.price]
    return {
        "id": str(row.id), "handle": row.handle, "title": row.title_zh, "category": row.category,
        "tags": row.tags, "media": [{"url": item["url"]} for item in row.media],
        "inStock": any(variant.available for variant in row.variants),
        "price": _money(min(prices, key=lambda price: price.amount_minor)),
        "variants": [_variant(variant) for variant in row.variants],
    }  # fmt: skip


def _variant(row: ListedVariant) -> dict[str, Any]:
    return {
        "id": str(row.id), "sku": row.sku, "title": row.title,
        "price": _money(row.price) if row.price else None,
        "inStock": row.available > 0, "available": row.available,
    }  # fmt: skip


def _money(money: Money) -> dict[str, str]:
    return {"amount": money.decimal, "currencyCode": money.currency, "minorUnits": str(money.amount_minor)}
