"""A light market by the product's own verbs: brands that sell and promote, people, suppliers, signed agreements."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import Clock
from core.ids import AgreementId, BrandId, LinkId, PlacementId, PromoterId, StorefrontId, SupplierId
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway
from marketplace.audiences import service as audiences
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import CommunityChannel, PlacementKind
from marketplace.brands import service as brands
from marketplace.brands.models import StorefrontChannel, TenantKind
from marketplace.brands.roles import BRAND_SCOPES
from marketplace.promotion import service as promotion
from marketplace.promotion.agreements.limits import CapScope, CapTerm, TierTerms
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.commission.rules import CapMode, Tier, TierMode
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.models import PromoterKind
from supply.settlement import service as settlement
from supply.settlement.processing_fees import set_fee_bearer
from supply.settlement.reconciliation.models import Bearer
from supply.settlement.statements.cycles import Cycle
from supply.suppliers import service as suppliers

CURRENCIES = ("CNY", "CNY", "JPY", "KWD", "EUR", "GBP")
"""What storefronts sell in: two, none and three decimals, and two that the provider keeps in another one (R10)."""
KEPT_IN = "USD"
RATES = {"EUR": 1.08, "GBP": 1.27}
"""What one unit brings in ``KEPT_IN``, to begin with."""
BRANDS, PROMOTING, PEOPLE, SUPPLIERS = 6, 2, 2, 5
COUNTRY = "CN"
_CYCLES = (Cycle.WEEKLY, Cycle.WEEKLY, Cycle.HALF_MONTHLY, Cycle.MONTHLY)
_CAPS = (
    CapTerm(CapScope.ORDER, 2_500, "CNY"),
    CapTerm(CapScope.PROMOTER, 40_000, "CNY", CapMode.ALL_OR_NOTHING),
    CapTerm(CapScope.AGREEMENT, 300_000, "CNY", CapMode.FALLBACK_RATE, fallback_rate_ppm=10_000),
)
_TIERS = (Tier(0, 40_000), Tier(60_000, 80_000), Tier(250_000, 120_000))
_UNPAYABLE = 4
"""One party in so many has nowhere to be paid: what it earns is carried."""


@dataclass(frozen=True, slots=True)
class Storefront:
    id: StorefrontId
    brand_id: BrandId
    currency: str


@dataclass(frozen=True, slots=True)
class Promoting:
    """A link by which ``promoter_brand_id`` (and a person of it) sells for ``advertiser_id``."""

    link_id: LinkId
    advertiser_id: BrandId
    promoter_brand_id: BrandId


@dataclass
class Market:
    brands: list[BrandId] = field(default_factory=list)
    suppliers: list[SupplierId] = field(default_factory=list)
    people: dict[PromoterId, BrandId] = field(default_factory=dict)
    storefronts: list[Storefront] = field(default_factory=list)
    links: list[Promoting] = field(default_factory=list)
    rail_accounts: dict[str, str] = field(default_factory=dict)
    """Where parties are paid on the sharing rail, the platform's own among them."""
    names: dict[str, str] = field(default_factory=dict)
    """How the trace calls a party: ``brand 2``."""

    @property
    def parties(self) -> list[str]:
        return list(self.names)

    def links_of(self, storefront: Storefront, advertiser_id: BrandId) -> list[LinkId]:
        return [
            link.link_id
            for link in self.links
            if (link.promoter_brand_id, link.advertiser_id) == (storefront.brand_id, advertiser_id)
        ]


def brand_actor(brand_id: BrandId) -> Actor:
    return Actor(ActorKind.BRAND, brand_id, scopes=BRAND_SCOPES)


async def open_market(
    db: Database, *, dice: Random, payments: PaymentGateway, secret: str, clock: Clock
) -> Market:
    market = Market()
    async with db.unit_of_work(SYSTEM) as session:
        await _sign_up(session, market, dice, clock)
        for number, promoter in enumerate(market.brands[:PROMOTING]):
            await _promote(session, market, promoter, number, dice, secret, clock)
    await _pay_into(db, market, payments, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await _agree_terms(session, market, dice, clock)
    return market


async def _sign_up(session: AsyncSession, market: Market, dice: Random, clock: Clock) -> None:
    for number in range(BRANDS):
        signed = await brands.sign_up(
            session, kind=TenantKind.BRAND, name=f"Brand {number}", email=f"brand{number}@simulation.example",
            country=COUNTRY, currency=CURRENCIES[0], clock=clock,
        )  # fmt: skip
        market.brands.append(BrandId.of(signed.tenant_id))
        market.names[str(market.brands[-1])] = f"brand {number}"
    for number in range(SUPPLIERS):
        signed = await brands.sign_up(
            session, kind=TenantKind.SUPPLIER, name=f"Supplier {number}",
            email=f"supplier{number}@simulation.example", country=COUNTRY, currency=CURRENCIES[0], clock=clock,
        )  # fmt: skip
        supplier_id = SupplierId.of(signed.tenant_id)
        await suppliers.register(
            session, supplier_id=supplier_id, name=f"Supplier {number}", settlement_days=dice.choice([0, 3, 7]),
            clock=clock,
        )  # fmt: skip
        market.suppliers.append(supplier_id)
        market.names[str(supplier_id)] = f"supplier {number}"


async def _promote(
    session: AsyncSession,
    market: Market,
    promoter: BrandId,
    number: int,
    dice: Random,
    secret: str,
    clock: Clock,
) -> None:
    """Storefronts, people, and an agreement with links for every other brand."""
    actor, people = brand_actor(promoter), []
    for currency in sorted(set(CURRENCIES)):
        made = await brands.create_storefront(
            session, actor, name=f"Shop {currency}", channel=StorefrontChannel.WEB, currency=currency,
            country=COUNTRY, locale="en", clock=clock,
        )  # fmt: skip
        market.storefronts.append(Storefront(made.id, promoter, currency))
    for person in range(PEOPLE):
        promoter_id = await promotion.create_promoter(
            session,
            actor,
            name=f"Person {person}",
            kind=PromoterKind.KOC,
            vault=IdentityVault(secret),
            clock=clock,
        )
        people.append(promoter_id)
        market.people[promoter_id] = promoter
        market.names[str(promoter_id)] = f"person {number}.{person}"
    placement = await _placement(session, actor, clock)
    for advertiser in market.brands:
        if advertiser == promoter:
            continue
        agreement = await _agreement(session, advertiser, promoter, dice, clock)
        for person_id in (None, *people):
            link = await promotion.create_link(
                session, actor, agreement_id=agreement, placement_id=placement, promoter_id=person_id,
                destination="https://shop.example.com/", policy=DestinationPolicy(), clock=clock,
            )  # fmt: skip
            market.links.append(Promoting(link.id, advertiser, promoter))


async def _placement(session: AsyncSession, actor: Actor, clock: Clock) -> PlacementId:
    community = await audiences.create_community(
        session, actor, name="Everybody", channel=CommunityChannel.WECOM_GROUP, region=COUNTRY, tags=(),
        declared_size=100, clock=clock,
    )  # fmt: skip
    return await audiences.create_placement(
        session, actor, community_id=community, kind=PlacementKind.POST, name="post", clock=clock
    )


async def _agreement(
    session: AsyncSession, advertiser: BrandId, promoter: BrandId, dice: Random, clock: Clock
) -> AgreementId:
    terms = Terms.flat(
        dice.randrange(50_000, 180_001, 2_500),
        individual_ppm=dice.choice([0, 250_000, 333_333]),
        return_window_days=dice.choice([7, 15, 30]),
        model=dice.choice([AttributionModel.LAST_TOUCH, AttributionModel.LINEAR]),
        caps=dice.choice([(), (), _CAPS]),
        tiers=dice.choice([None, None, *(TierTerms(_TIERS, "CNY", mode) for mode in TierMode)]),
    )
    invitation = await promotion.invite(
        session, brand_actor(advertiser), advertiser_id=advertiser, promoter_brand_id=promoter, terms=terms,
        clock=clock,
    )  # fmt: skip
    opened = await promotion.accept(session, brand_actor(promoter), invitation, clock=clock)
    for signer in (advertiser, promoter):
        await promotion.sign_agreement(
            session, brand_actor(signer), opened.agreement_id, content_hash=opened.content_hash, clock=clock
        )
    return opened.agreement_id


async def _pay_into(db: Database, market: Market, payments: PaymentGateway, clock: Clock) -> None:
    """Connected accounts at the provider, and the payees they are; some parties have none."""
    for number, party in enumerate(market.parties):
        if number % _UNPAYABLE == _UNPAYABLE - 1:
            continue
        account = await payments.create_account(party_ref=party, country=COUNTRY, key=f"account:{party}")
        async with db.unit_of_work(SYSTEM) as session:
            for currency in sorted(set(CURRENCIES)):
                await settlement.register_payee(
                    session, party, currency=currency, account_id=account.id, now=clock.now(),
                    minimum_minor=number % 3 * 200,
                )  # fmt: skip


async def _agree_terms(session: AsyncSession, market: Market, dice: Random, clock: Clock) -> None:
    """Cycles of all lengths, rolling reserves, a merchant that bears the provider's fee. Others keep the usual."""
    for number, party in enumerate(market.parties[::2]):
        await settlement.set_settlement_terms(
            session, party, currency=dice.choice(CURRENCIES), now=clock.now(),
            cycle=Cycle.DAILY if number == 0 else dice.choice(_CYCLES),
            time_zone=dice.choice(["UTC", "Asia/Shanghai"]), reserve_ppm=dice.choice([0, 0, 100_000]),
            reserve_days=30,
        )  # fmt: skip
    await set_fee_bearer(
        session, market.brands[1], Bearer.MERCHANT, reason="agreed", decided_by="simulation", now=clock.now()
    )
