"""The storefront API: what a shopper behind a partner storefront may see and do."""

from __future__ import annotations

from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types

from graph.catalog.storefront import StorefrontCatalogQueries
from graph.limits import Schema, extensions
from graph.orders.storefront import StorefrontOrderMutations, StorefrontOrderQueries
from graph.scalars import SCALARS

Query = merge_types("Query", (StorefrontCatalogQueries, StorefrontOrderQueries))
Mutation = merge_types("Mutation", (StorefrontOrderMutations,))

schema = Schema(
    query=Query,
    mutation=Mutation,
    config=StrawberryConfig(scalar_map=SCALARS, relay_max_results=100),
    extensions=extensions(),
)
