"""What an order would earn, line by line, before anybody sells it."""

from __future__ import annotations

import strawberry

from core.ids import AgreementId, OrderId, VariantId
from graph.context import Context, Info
from graph.permissions import scope
from graph.promotion.terms import RateRule
from graph.scalars import Money, MoneyInput, Ppm
from marketplace.insights import preview
from marketplace.insights.errors import BadPreview
from marketplace.insights.preview import (
    Basket,
    BasketLine,
    ConsideredRule,
    Preview,
    PreviewedLine,
    PreviewedShare,
    RuleFate,
)
from marketplace.promotion.commission.rules import CapMode, TierMode
from marketplace.promotion.ids import CampaignOfferId
from marketplace.promotion.models import ShareRole

strawberry.enum(
    RuleFate,
    name="RateRuleFate",
    description="SKU goes before product, before the deepest category, before everything; then the higher priority.",
)


@strawberry.input(description="`unitPrice` by default the catalogue's.")
class PreviewLineInput:
    variant_id: strawberry.ID
    quantity: int = 1
    unit_price: MoneyInput | None = None
    discount: MoneyInput | None = strawberry.field(default=None, description="Off the whole line.")

    def parsed(self) -> BasketLine:
        return BasketLine(
            VariantId.parse(self.variant_id),
            self.quantity,
            self.unit_price.parsed() if self.unit_price else None,
            self.discount.parsed() if self.discount else None,
        )


@strawberry.input(description="Under an agreement or an offer; an order of the advertiser, or a basket.")
class PreviewCommissionInput:
    agreement_id: strawberry.ID | None = None
    offer_id: strawberry.ID | None = None
    offer_version: int | None = strawberry.field(default=None, description="By default the current one.")
    order_id: strawberry.ID | None = None
    lines: list[PreviewLineInput] = strawberry.field(default_factory=list)
    currency_code: str = strawberry.field(default="CNY", description="Of a basket.")
    country: str = strawberry.field(default="CN", description="Of a basket: whose tax its prices contain.")
    new_customer: bool = False
    with_promoter: bool = strawberry.field(default=False, description="Through a person's link.")


@strawberry.type
class PreviewShare:
    role: ShareRole
    amount: Money

    @classmethod
    def of(cls, share: PreviewedShare) -> PreviewShare:
        return cls(role=share.role, amount=Money.of(share.amount))


@strawberry.type(description="A rule that fits the line.")
class PreviewRule:
    id: str
    rule: RateRule
    fate: RuleFate

    @classmethod
    def of(cls, found: ConsideredRule) -> PreviewRule:
        return cls(id=found.id, rule=RateRule.of(found.rule), fate=found.fate)


@strawberry.type
class PreviewLine:
    sku: str
    quantity: int
    gross: Money
    discount: Money
    basis: Money = strawberry.field(description="Gross less discount less the tax inside.")
    rate_ppm: Ppm
    fixed: Money | None = strawberry.field(description="A piece, instead of the rate.")
    rules: list[PreviewRule] = strawberry.field(description="Those that fit, the one that holds first.")
    by_rule: Money = strawberry.field(description="Before tiers, caps and budget.")
    commission: Money
    shares: list[PreviewShare]

    @classmethod
    def of(cls, line: PreviewedLine) -> PreviewLine:
        return cls(
            sku=line.sku,
            quantity=line.quantity,
            gross=Money.of(line.gross),
            discount=Money.of(line.discount),
            basis=Money.of(line.basis),
            rate_ppm=Ppm(line.rate_ppm),
            fixed=None if line.fixed is None else Money.of(line.fixed),
            rules=[PreviewRule.of(each) for each in line.rules],
            by_rule=Money.of(line.by_rule),
            commission=Money.of(line.commission),
            shares=[PreviewShare.of(each) for each in line.shares],
        )


@strawberry.type(description="A cap as it stands before this order; scope CAMPAIGN is the campaign's budget.")
class PreviewCap:
    scope: str
    limit: Money
    left: Money
    mode: CapMode


@strawberry.type
class PreviewTiers:
    mode: TierMode
    prior_basis: Money = strawberry.field(description="Sold in the period before this order.")


@strawberry.type(description="What the order would earn now. Nothing is stored or reserved.")
class CommissionPreview:
    source: strawberry.ID = strawberry.field(description="The agreement or the offer.")
    version: int
    lines: list[PreviewLine]
    by_rule: Money
    commission: Money
    adjustment: Money = strawberry.field(
        description="Of a retroactive tier, for the period's earlier orders."
    )
    shares: list[PreviewShare]
    caps: list[PreviewCap]
    tiers: PreviewTiers | None
    return_window_days: int

    @classmethod
    def of(cls, found: Preview) -> CommissionPreview:
        return cls(
            source=strawberry.ID(found.name),
            version=found.version,
            lines=[PreviewLine.of(line) for line in found.lines],
            by_rule=Money.of(found.by_rule),
            commission=Money.of(found.commission),
            adjustment=Money.of(found.adjustment),
            shares=[PreviewShare.of(each) for each in found.shares],
            caps=[
                PreviewCap(
                    scope=cap.scope,
                    limit=Money.of(cap.limit),
                    left=Money.of(cap.left),
                    mode=CapMode(cap.mode),
                )
                for cap in found.caps
            ],
            tiers=None
            if found.tiers is None
            else PreviewTiers(mode=found.tiers.mode, prior_basis=Money.of(found.tiers.prior_basis)),
            return_window_days=found.return_window_days,
        )


@strawberry.type
class PreviewQueries:
    @strawberry.field(
        permission_classes=[scope("promotion:read")],
        description="What an order or a basket would earn under an agreement or an offer, as things stand now.",
    )
    async def preview_commission(self, info: Info, input: PreviewCommissionInput) -> CommissionPreview:
        context = info.context
        if (input.agreement_id is None) == (input.offer_id is None):
            raise BadPreview("an agreement or an offer", field="agreementId")
        if (input.order_id is None) == (not input.lines):
            raise BadPreview("an order or the lines of a basket", field="lines")
        return CommissionPreview.of(await _preview(context, input))


async def _preview(context: Context, input: PreviewCommissionInput) -> Preview:
    actor = context.actor
    async with context.reading() as session:
        if input.agreement_id is not None:
            under = await preview.under_agreement(
                session, actor, AgreementId.parse(input.agreement_id), context.clock.now()
            )
        else:
            offer_id = CampaignOfferId.parse(input.offer_id or "")
            under = await preview.under_offer(session, actor, offer_id, input.offer_version)
        if input.order_id is not None:
            order_id = OrderId.parse(input.order_id)
            currency, lines = await preview.lines_of_order(session, actor, order_id, under)
        else:
            wanted = [line.parsed() for line in input.lines]
            basket = Basket(wanted, input.currency_code, input.country)
            currency, lines = await preview.lines_of_basket(session, basket, under)
        return await preview.preview(
            session,
            under,
            currency,
            lines,
            new_customer=input.new_customer,
            with_person=input.with_promoter,
            clock=context.clock,
        )
