"""Links by the thousand, links into mini-programs, QR codes in print."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, LinkId, PlacementId, ProductId, PromoterId, StorefrontId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion.mutations import policy_of
from graph.promotion.rows import RefusedRow, all_or_none, parsed, rejected, stored
from graph.promotion.types import TrackedLink
from marketplace.catalog.models import ErrorPolicy
from marketplace.promotion import queries, service
from marketplace.promotion.errors import DeepLinkNotFound, RowError
from marketplace.promotion.ids import QrBatchId
from marketplace.promotion.links import deep_links, qr_batches
from marketplace.promotion.links.deep_links import USUAL_URL, DeepLinkRow, Templates
from marketplace.promotion.links.lifecycle import LARGEST_BATCH
from marketplace.promotion.links.qr_batches import NewArm, NewBatch, QrAssetRow, QrBatchRow, Responses
from marketplace.promotion.queries import LinkRow
from marketplace.promotion.reach_models import QrBatchKind
from marketplace.promotion.service import NewLink

strawberry.enum(QrBatchKind, name="QrBatchKind")
_READ = scope("promotion:read")


async def _links(context: Context, ids: Sequence[LinkId]) -> list[LinkRow | None]:
    async with context.reading() as session:
        found = await queries.links_of(session, context.actor, ids)
    return [found.get(link_id) for link_id in ids]


async def _assets(context: Context, ids: Sequence[QrBatchId]) -> list[list[QrAssetRow]]:
    async with context.reading() as session:
        found = await qr_batches.assets_of(session, ids)
    return [found.get(batch_id, []) for batch_id in ids]


async def _responses(context: Context, ids: Sequence[LinkId]) -> list[Responses]:
    async with context.reading() as session:
        found = await qr_batches.responses_of(session, ids)
    return [found.get(link_id, Responses()) for link_id in ids]


@strawberry.input(description="One link of a batch; as in `linkCreate`.")
class LinkBatchRowInput:
    placement_id: strawberry.ID
    destination: str
    agreement_id: strawberry.ID | None = None
    product_id: strawberry.ID | None = None
    promoter_id: strawberry.ID | None = None
    storefront_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose mini-program opens inside WeChat; everybody else gets `destination`."
    )
    expires_at: datetime | None = None

    def parsed(self) -> NewLink:
        return NewLink(
            placement_id=PlacementId.parse(self.placement_id),
            destination=self.destination,
            agreement_id=AgreementId.parse(self.agreement_id) if self.agreement_id else None,
            product_id=ProductId.parse(self.product_id) if self.product_id else None,
            promoter_id=PromoterId.parse(self.promoter_id) if self.promoter_id else None,
            storefront_id=StorefrontId.parse(self.storefront_id) if self.storefront_id else None,
            expires_at=self.expires_at,
        )


@strawberry.input(description="1 to 1,000 links. The same key again gives the same links.")
class LinkBatchCreateInput:
    idempotency_key: str
    links: list[LinkBatchRowInput]
    policy: ErrorPolicy = ErrorPolicy.REJECT_FAILED_ROWS


@strawberry.type(description="By row; null where the row was refused.")
class LinkBatchPayload:
    links: list[TrackedLink | None] = strawberry.field(default_factory=list)
    row_errors: list[RefusedRow] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type(description="How a storefront's mini-program is opened inside WeChat.")
class DeepLink:
    storefront_id: strawberry.ID
    app_id: str
    path: str
    query: str
    url: str

    @classmethod
    def of(cls, row: DeepLinkRow) -> DeepLink:
        said = row.templates
        return cls(
            storefront_id=strawberry.ID(str(row.storefront_id)),
            app_id=said.app_id,
            path=said.path,
            query=said.query,
            url=said.url,
        )


@strawberry.input(description="Holds for links made from now on.")
class DeepLinkSetInput:
    storefront_id: strawberry.ID
    app_id: str
    path: str = strawberry.field(description="May have {product} and {code}: pages/product/index")
    query: str = strawberry.field(description="Has {touch} once, may have {product} and {code}: lyt={touch}")
    url: str = strawberry.field(
        default=USUAL_URL,
        description="Has {query} once, may have {app_id} and {path}; begins with weixin://dl/business/ or https.",
    )


@strawberry.input
class DeepLinkRemoveInput:
    storefront_id: strawberry.ID


@strawberry.type
class DeepLinkPayload:
    deep_link: DeepLink | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type(description="What the cards of one arm brought.")
class QrResponses:
    scans: int = strawberry.field(
        description="Without bots; a browser that scans again within seconds counts once."
    )
    people: int = strawberry.field(description="Distinct browsers.")
    leads: int = strawberry.field(description="Contacts added, groups joined.")
    orders: int = strawberry.field(description="Credited to the arm's link.")


@strawberry.type(description="One arm of a batch, with a code of its own.")
class QrAsset:
    id: strawberry.ID
    arm: str
    code: str
    caption_zh: str
    caption_en: str
    quantity: int
    row: strawberry.Private[QrAssetRow]

    @classmethod
    def of(cls, row: QrAssetRow) -> QrAsset:
        return cls(
            id=strawberry.ID(str(row.id)),
            arm=row.arm,
            code=row.code,
            caption_zh=row.caption_zh,
            caption_en=row.caption_en,
            quantity=row.quantity,
            row=row,
        )

    @strawberry.field
    async def link(self, info: Info) -> TrackedLink | None:
        found = await info.context.loader(_links).load(self.row.link_id)
        return None if found is None else TrackedLink.of(found)

    @strawberry.field
    async def responses(self, info: Info) -> QrResponses:
        found = await info.context.loader(_responses).load(self.row.link_id)
        return QrResponses(scans=found.scans, people=found.people, leads=found.leads, orders=found.orders)

    @strawberry.field(description="With the brand's token; .png beside it.")
    def svg_url(self, info: Info) -> str:
        return f"{_print_url(info)}/qr-assets/{self.id}.svg"


@strawberry.type(description="One printing of QR codes.")
class QrBatch:
    id: strawberry.ID
    name: str
    kind: QrBatchKind
    sku: str
    warehouse: str
    created_at: datetime
    row: strawberry.Private[QrBatchRow]

    @classmethod
    def of(cls, row: QrBatchRow) -> QrBatch:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            kind=QrBatchKind(row.kind),
            sku=row.sku,
            warehouse=row.warehouse,
            created_at=row.created_at,
            row=row,
        )

    @strawberry.field
    async def assets(self, info: Info) -> list[QrAsset]:
        return [QrAsset.of(row) for row in await info.context.loader(_assets).load(self.row.id)]

    @strawberry.field(
        description="A4 sheets of cards as PDF, with the brand's token; ?copies= for each arm, ?arm= for one."
    )
    def print_sheet_url(self, info: Info) -> str:
        return f"{_print_url(info)}/qr-batches/{self.id}.pdf"


def _print_url(info: Info) -> str:
    return f"{info.context.gateways.settings.brand_url.removesuffix('/graphql')}/print"


@strawberry.input(description="One variant of a card: A, B, …")
class QrArmInput:
    arm: str = ""
    quantity: int = strawberry.field(description="How many are printed.")
    caption_zh: str = ""
    caption_en: str = ""
    destination: str | None = strawberry.field(default=None, description="When it differs from the batch's.")

    def parsed(self) -> NewArm:
        return NewArm(self.arm, self.quantity, self.caption_zh, self.caption_en, self.destination)


@strawberry.input(description="A parcel card needs `sku` and `warehouse`. Every arm gets a link like `link`.")
class QrBatchCreateInput:
    name: str
    kind: QrBatchKind
    link: LinkBatchRowInput
    arms: list[QrArmInput]
    sku: str = ""
    warehouse: str = ""

    def parsed(self) -> NewBatch:
        arms = [arm.parsed() for arm in self.arms]
        return NewBatch(self.name, self.kind, arms, self.sku, self.warehouse)


@strawberry.type
class QrBatchPayload:
    batch: QrBatch | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class ReachQueries:
    @strawberry.field(permission_classes=[_READ], description="Of an own storefront, or a partner's.")
    async def deep_link(self, info: Info, storefront_id: strawberry.ID) -> DeepLink:
        wanted = StorefrontId.parse(storefront_id)
        async with info.context.reading() as session:
            found = await deep_links.deep_links_of(session, [wanted])
        if wanted not in found:
            raise DeepLinkNotFound("this storefront opens no mini-program", field="storefrontId")
        return DeepLink.of(found[wanted])

    @strawberry.field(permission_classes=[_READ])
    async def qr_batch(self, info: Info, id: strawberry.ID) -> QrBatch:
        context = info.context
        async with context.reading() as session:
            return QrBatch.of(await qr_batches.batch(session, context.actor, QrBatchId.parse(id)))

    @strawberry.field(permission_classes=[_READ], description="The own brand's, newest first.")
    async def qr_batches(self, info: Info, first: First = 20, after: After = None) -> Connection[QrBatch]:
        context = info.context
        async with context.reading() as session:
            page = await qr_batches.batches_page(session, context.actor, PageRequest(first, after))
        return connection(page, QrBatch.of)


@strawberry.type
class ReachMutations:
    @strawberry.mutation(description="Good rows are made, each refused one is named; or all or none.")
    @expected(LinkBatchPayload)
    async def link_batch_create(self, info: Info, input: LinkBatchCreateInput) -> LinkBatchPayload:
        context, actor = info.context, info.context.actor
        good, bad = parsed(input.links, LinkBatchRowInput.parsed, most=LARGEST_BATCH, field="links")

        async def make(session: AsyncSession) -> dict[str, Any]:
            return await _made(session, context, input, good, bad)

        kept = await run_once(
            context,
            operation="linkBatchCreate",
            key=input.idempotency_key,
            body=[input.policy.value, [good.get(n + 1) for n in range(len(input.links))]],
            run=make,
        )
        ids = [LinkId.parse(each) if each else None for each in kept["links"]]
        async with context.reading() as session:
            rows = await queries.links_of(session, actor, [each for each in ids if each is not None])
        return LinkBatchPayload(
            links=[TrackedLink.of(rows[each]) if each is not None else None for each in ids],
            row_errors=[RefusedRow.read(each) for each in kept["errors"]],
            user_errors=rejected(kept["errors"], input.policy),
        )

    @strawberry.mutation(
        description="How WeChat opens the storefront's mini-program from links made from now on."
    )
    @expected(DeepLinkPayload)
    async def deep_link_set(self, info: Info, input: DeepLinkSetInput) -> DeepLinkPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            row = await deep_links.set_deep_link(
                session,
                actor,
                StorefrontId.parse(input.storefront_id),
                Templates(input.app_id, input.path, input.query, input.url),
                policy=policy_of(context),
                clock=context.clock,
            )
        return DeepLinkPayload(deep_link=DeepLink.of(row))

    @strawberry.mutation(description="Links made before keep theirs.")
    @expected(DeepLinkPayload)
    async def deep_link_remove(self, info: Info, input: DeepLinkRemoveInput) -> DeepLinkPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            await deep_links.remove_deep_link(session, actor, StorefrontId.parse(input.storefront_id))
        return DeepLinkPayload()

    @strawberry.mutation(description="A batch to print; each arm with a link, and so a code, of its own.")
    @expected(QrBatchPayload)
    async def qr_batch_create(self, info: Info, input: QrBatchCreateInput) -> QrBatchPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            batch_id = await qr_batches.create_batch(
                session,
                actor,
                input.parsed(),
                input.link.parsed(),
                policy=policy_of(context),
                clock=context.clock,
            )
            row = await qr_batches.batch(session, actor, batch_id)
        return QrBatchPayload(batch=QrBatch.of(row))


async def _made(
    session: AsyncSession,
    context: Context,
    input: LinkBatchCreateInput,
    good: dict[int, NewLink],
    bad: list[RowError],
) -> dict[str, Any]:
    """The links by row and the errors, as they are kept under the caller's key."""
    context.actor.require("promotion:write")
    whole, errors = all_or_none(input.policy), list(bad)
    ids: list[str | None] = [None] * len(input.links)
    if good and not (bad and whole):
        done = await service.create_links(
            session,
            context.actor,
            list(good.values()),
            all_or_none=whole,
            policy=policy_of(context),
            clock=context.clock,
        )
        numbers = list(good)
        for number, link in zip(numbers, done.links, strict=True):
            ids[number - 1] = None if link is None else str(link.id)
        errors += [RowError(numbers[each.row - 1], each.error) for each in done.errors]
    errors.sort(key=lambda each: each.row)
    return {"links": ids, "errors": [stored(each) for each in errors]}
