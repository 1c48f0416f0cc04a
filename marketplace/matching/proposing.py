"""Products for a community, communities for a product: candidates, constraints, scores, and why.

Only what may be sold is proposed: an own product, or one that an active agreement covers; published, priced,
and in stock for the community's region. A partner's community is known by what it declares of itself; the tags
of its members stay with the brand they trust.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import AgreementId, BrandId, CommunityId, ProductId, ProposalId
from core.money import PPM, Money
from infra.db.base import table_of
from marketplace.audiences import queries as audiences
from marketplace.audiences.queries import CommunityProfile, CommunityRow
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import PricedVariant, ProductRow
from marketplace.matching.diversity import at_most_three_of_ten
from marketplace.matching.errors import BadProposalRequest, ProposalNotFound
from marketplace.matching.evidence import Bought, Sales, sales_of
from marketplace.matching.models import Direction, Lane, Proposal
from marketplace.matching.scoring import Parts, Score, TagPart, score
from marketplace.promotion import queries as promotion
from marketplace.promotion.agreements.promises import promise
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.facts import ScopeKind
from marketplace.promotion.queries import Sellable
from supply.inventory import queries as inventory

LONGEST_LIST = 50
_CHECKED_PER_PLACE = 6
_PROPOSALS = table_of(Proposal)
_EMPTY = CommunityProfile(0, {}, 0, {})


@dataclass(frozen=True, slots=True)
class Proposed:
    """``parts`` is the reason: scoring it again gives ``score``."""

    id: ProposalId
    direction: Direction
    community_id: CommunityId
    community_brand_id: BrandId
    product_id: ProductId
    product_brand_id: BrandId
    agreement_id: AgreementId | None
    lane: Lane
    rank: int
    score_ppm: int
    parts: Parts
    proposed_at: datetime

    @property
    def score(self) -> Score:
        return score(self.parts)


@dataclass(frozen=True, slots=True)
class _Pair:
    community: CommunityRow
    product: ProductRow
    agreement: Sellable | None
    parts: Parts
    score: Score


async def propose_products(
    session: AsyncSession, actor: Actor, community_id: CommunityId, *, limit: int = 10, clock: Clock
) -> list[Proposed]:
    """What to show in a community of the actor's brand, best first. Stored with its reasons.

    Raises ``CommunityNotFound``, ``BadProposalRequest``. Ten statements, however large the catalogue.
    """
    _check(actor, limit)
    community = await audiences.community(session, actor, community_id)
    profile = await audiences.community_profile(session, actor, community_id)
    partners = await promotion.sellable_through(session, actor.brand_id, clock.now())
    products = await catalog.published_of_brands(
        session,
        {actor.brand_id, *(partner.advertiser_id for partner in partners)},
        tags={*profile.tag_members, *community.tags},
    )
    sales = await sales_of(session, actor.brand_id, [community_id])
    variants = await _variants(session, products, partners)
    pairs = []
    for product in products:
        covering = _covering(product, partners, variants.get(product.id, ()))
        if product.brand_id == actor.brand_id:
            pairs.append(_pair(community, profile, product, None, sales))
        elif covering:
            pairs.append(_pair(community, profile, product, max(covering, key=_merit), sales))
    pairs.sort(key=lambda pair: (-pair.score.total_ppm, pair.product.id))
    in_stock = await _deliverable(session, pairs, limit, clock.now())
    chosen = at_most_three_of_ten(in_stock, limit, lambda pair: pair.product.brand_id)
    return await _store(session, actor.brand_id, Direction.PRODUCTS_FOR_COMMUNITY, chosen, clock.now())


async def propose_communities(
    session: AsyncSession, actor: Actor, product_id: ProductId, *, limit: int = 10, clock: Clock
) -> list[Proposed]:
    """Where to show a product, best first: own communities, and those of brands that may sell it.

    For another brand's product only own communities, under an agreement that covers it. Raises
    ``ProductNotFound``, ``BadProposalRequest``.
    """
    _check(actor, limit)
    product, now = await catalog.product(session, actor, product_id), clock.now()
    if product.status != "published":
        raise BadProposalRequest("only a published product is proposed", field="productId")
    mine = product.brand_id == actor.brand_id
    agreements = (
        await promotion.promoters_of(session, actor.brand_id, now)
        if mine
        else await promotion.agreements_in_force(session, actor.brand_id, [product.brand_id], now)
    )
    variants = await _variants(session, [product], agreements)
    covering = _covering(product, agreements, variants.get(product.id, ()))
    allowed = {paid.agreement.promoter_brand_id: paid for paid in sorted(covering, key=_merit)}
    brands = [*allowed, actor.brand_id] if mine else list(allowed)
    communities = await audiences.communities_of_brands(session, brands)
    own = [community.id for community in communities if community.brand_id == actor.brand_id]
    profiles = await audiences.community_profiles(session, own)
    sales = await sales_of(
        session, actor.brand_id, [community.id for community in communities], products=[product_id]
    )
    pairs = [
        _pair(
            community,
            profiles.get(community.id, _EMPTY),
            product,
            allowed.get(community.brand_id) if community.brand_id != product.brand_id else None,
            sales,
        )
        for community in communities
    ]
    pairs.sort(key=lambda pair: (-pair.score.total_ppm, pair.community.id))
    in_stock = await _deliverable(session, pairs, limit, now)
    chosen = at_most_three_of_ten(in_stock, limit, lambda pair: pair.community.brand_id)
    return await _store(session, actor.brand_id, Direction.COMMUNITIES_FOR_PRODUCT, chosen, now)


async def proposal(session: AsyncSession, actor: Actor, proposal_id: ProposalId) -> Proposed:
    """Raises ``ProposalNotFound`` for another brand's."""
    c = _PROPOSALS.c
    wanted = select(
        c.id, c.direction, c.community_id, c.community_brand_id, c.product_id, c.product_brand_id,
        c.agreement_id, c.lane, c.rank, c.score_ppm, c.parts, c.proposed_at,
    ).where(c.id == proposal_id)  # fmt: skip
    if not actor.sees_everything:
        wanted = wanted.where(c.brand_id == actor.brand_id)
    row = (await session.execute(wanted)).first()
    if row is None:
        raise ProposalNotFound("no such proposal", field="proposalId")
    return Proposed(
        row.id, Direction(row.direction), row.community_id, row.community_brand_id, row.product_id,
        row.product_brand_id, row.agreement_id, Lane(row.lane), row.rank, row.score_ppm,
        Parts.from_json(row.parts), row.proposed_at,
    )  # fmt: skip


def _check(actor: Actor, limit: int) -> None:
    actor.require("matching:read")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    if not 1 <= limit <= LONGEST_LIST:
        raise BadProposalRequest(f"1 to {LONGEST_LIST} proposals", field="first")


async def _variants(
    session: AsyncSession, products: Sequence[ProductRow], agreements: Sequence[Sellable]
) -> dict[ProductId, list[PricedVariant]]:
    """Only where an agreement names SKUs, or an amount that a price makes comparable."""
    asked = {each.advertiser_id for each in agreements if _asks_for_variants(each.terms)}
    wanted = [product.id for product in products if product.brand_id in asked]
    return await catalog.priced_variants_of(session, wanted) if wanted else {}


def _asks_for_variants(terms: Terms) -> bool:
    return any(rule.scope is ScopeKind.SKU or rule.fixed is not None for rule in terms.rules)


@dataclass(frozen=True, slots=True)
class _Paid:
    """What an agreement pays for a product at best: ``commission_ppm`` of a price, and the amount a piece it is of."""

    agreement: Sellable
    commission_ppm: int
    fixed: Money | None = None


def _merit(paid: _Paid) -> tuple[int, AgreementId]:
    return paid.commission_ppm, paid.agreement.agreement_id


def _covering(
    product: ProductRow, agreements: Sequence[Sellable], variants: Sequence[PricedVariant]
) -> list[_Paid]:
    """The agreements under which the product may be sold, each with the variant and currency it pays best for."""
    skus = [variant.sku for variant in variants]
    found = []
    for agreement in agreements:
        if agreement.advertiser_id != product.brand_id:
            continue
        if agreement.scope.covers(product.id, product.category, skus):
            best = max(_payments(product, agreement, variants), key=lambda paid: paid.commission_ppm)
            found.append(best)
    return found


def _payments(product: ProductRow, agreement: Sellable, variants: Sequence[PricedVariant]) -> Iterator[_Paid]:
    unpriced = promise(agreement.terms, product.id, product.category, "")
    yield _Paid(agreement, unpriced.rate_ppm if unpriced is not None and not variants else 0)
    for variant in variants:
        for price in variant.prices:
            currency = price.amount.currency
            paid = promise(agreement.terms, product.id, product.category, variant.sku, currency=currency)
            if paid is not None:
                fixed = None if paid.fixed_minor is None else Money(paid.fixed_minor, currency)
                yield _Paid(agreement, paid.part_of_price(price.amount.amount_minor), fixed)


def _pair(
    community: CommunityRow,
    profile: CommunityProfile,
    product: ProductRow,
    paid: _Paid | None,
    sales: Sales,
) -> _Pair:
    declared = set(community.tags)
    here = sales.here.get(community.id, Bought())
    parts = Parts(
        members=profile.members,
        brand_contacts=profile.brand_contacts,
        product_tags=len(product.tags),
        tags=tuple(
            TagPart(
                tag, profile.tag_members.get(tag, 0), profile.brand_tag_contacts.get(tag, 0), tag in declared
            )
            for tag in sorted(product.tags)
            if tag in declared or tag in profile.tag_members
        ),
        community_buyers=here.buyers,
        bought_here=here.by_product.get(product.id, 0),
        all_buyers=sales.anywhere.buyers,
        bought_anywhere=sales.anywhere.by_product.get(product.id, 0),
        companions=sales.companions(community.id, product.id),
        commission_ppm=0 if paid is None else min(paid.commission_ppm, PPM),
        commission_fixed=None if paid is None else paid.fixed,
    )
    return _Pair(community, product, None if paid is None else paid.agreement, parts, score(parts))


async def _deliverable(
    session: AsyncSession, pairs: Sequence[_Pair], limit: int, now: datetime
) -> list[_Pair]:
    """The best pairs whose product has a price and stock that reaches the community's region."""
    best = pairs[: limit * _CHECKED_PER_PLACE]
    products = {pair.product.id for pair in best}
    if not products:
        return []
    priced = await catalog.priced_variants_of(session, products)
    variants = {
        product: [variant.id for variant in found if variant.prices] for product, found in priced.items()
    }
    everything = [variant for found in variants.values() for variant in found]
    stock = {
        region: await inventory.sellable(session, everything, region, now=now)
        for region in sorted({pair.community.region for pair in best})
    }
    return [
        pair
        for pair in best
        if any(stock[pair.community.region].get(variant) for variant in variants.get(pair.product.id, ()))
    ]


async def _store(
    session: AsyncSession,
    brand_id: BrandId,
    direction: Direction,
    pairs: Sequence[_Pair],
    now: datetime,
) -> list[Proposed]:
    proposed = [
        Proposed(
            id=ProposalId.new(),
            direction=direction,
            community_id=pair.community.id,
            community_brand_id=pair.community.brand_id,
            product_id=pair.product.id,
            product_brand_id=pair.product.brand_id,
            agreement_id=None if pair.agreement is None else pair.agreement.agreement_id,
            lane=pair.score.lane,
            rank=rank,
            score_ppm=pair.score.total_ppm,
            parts=pair.parts,
            proposed_at=now,
        )
        for rank, pair in enumerate(pairs, start=1)
    ]
    rows = [
        {
            "id": each.id, "brand_id": brand_id, "direction": direction, "community_id": each.community_id,
            "community_brand_id": each.community_brand_id, "product_id": each.product_id,
            "product_brand_id": each.product_brand_id, "agreement_id": each.agreement_id, "lane": each.lane,
            "rank": each.rank, "propensity_ppm": PPM, "score_ppm": each.score_ppm,
            "parts": each.parts.to_json(), "proposed_at": now,
        }
        for each in proposed
    ]  # fmt: skip
    if rows:
        await session.execute(insert(_PROPOSALS), rows)
    return proposed
