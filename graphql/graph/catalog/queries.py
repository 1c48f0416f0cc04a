from __future__ import annotations

import strawberry

from core.actor import ActorKind
from core.ids import BrandId, ImportId, ProductId
from core.pagination import PageRequest
from graph.catalog.types import CatalogImport, Product
from graph.context import Context, Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from marketplace.catalog import queries
from marketplace.catalog.models import ProductStatus
from marketplace.catalog.queries import ProductFilter


@strawberry.input(description="Every condition given must hold.")
class ProductFilterInput:
    brand_id: strawberry.ID | None = strawberry.field(
        default=None, description="Another brand's published products; the own brand's when left out."
    )
    status: ProductStatus | None = None
    category: str | None = strawberry.field(default=None, description="With its sub-categories.")
    tags: list[str] = strawberry.field(default_factory=list, description="All of them.")
    text: str = strawberry.field(default="", description="Inside a title or handle.")

    def parsed(self, context: Context) -> ProductFilter:
        own = context.actor.brand_id if context.actor.kind is ActorKind.BRAND else None
        brand_id = BrandId.parse(self.brand_id) if self.brand_id else own
        return ProductFilter(
            brand_ids=[brand_id] if brand_id else None,
            status=self.status,
            category=self.category,
            tags=self.tags,
            text=self.text[:200],
        )


@strawberry.type
class CatalogQueries:
    @strawberry.field(permission_classes=[scope("catalog:read")], description="The oldest first.")
    async def products(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        filter: ProductFilterInput | None = None,
    ) -> Connection[Product]:
        context = info.context
        wanted = (filter or ProductFilterInput()).parsed(context)
        async with context.reading() as session:
            page = await queries.products_page(session, context.actor, wanted, PageRequest(first, after))

        async def count() -> int:
            async with context.reading() as session:
                return await queries.products_count(session, context.actor, wanted)

        return connection(page, Product.of, count)

    @strawberry.field(permission_classes=[scope("catalog:read")])
    async def product(self, info: Info, id: strawberry.ID) -> Product:
        context = info.context
        async with context.reading() as session:
            return Product.of(await queries.product(session, context.actor, ProductId.parse(id)))

    @strawberry.field(permission_classes=[scope("catalog:read")])
    async def catalog_import(self, info: Info, id: strawberry.ID) -> CatalogImport:
        context = info.context
        async with context.reading() as session:
            return CatalogImport.of(await queries.import_of(session, context.actor, ImportId.parse(id)))
