"""What a new link has to agree with, read for any number of links at once; then judged link by link, purely."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import (
    AgreementId,
    BrandId,
    LinkId,
    PlacementId,
    ProductId,
    PromoterId,
    ProposalId,
    StorefrontId,
)
from marketplace.audiences import queries as audiences
from marketplace.audiences.errors import PlacementNotFound
from marketplace.audiences.queries import PlacementRow
from marketplace.catalog import queries as catalog
from marketplace.catalog.errors import ProductNotFound
from marketplace.catalog.queries import ProductRow
from marketplace.promotion import queries
from marketplace.promotion.errors import (
    AgreementNotActive,
    AgreementNotFound,
    BadDestination,
    DeepLinkNotFound,
    NotInScope,
    PromoterNotFound,
)
from marketplace.promotion.links import deep_links
from marketplace.promotion.links.deep_links import DeepLinkRow
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.models import AgreementStatus, LinkStatus
from marketplace.promotion.queries import AgreementRow, PromoterRow, VersionInForce

# No 0/O, 1/l/I: a code is read aloud and typed from paper. 10 of 56 letters are 58 bits, not to be guessed.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
_CODE_LENGTH = 10


@dataclass(frozen=True, slots=True)
class NewLink:
    """``agreement_id`` is ``None`` only for the brand's own products. ``storefront_id`` names whose mini-program
    opens inside WeChat; everybody else goes to ``destination``."""

    placement_id: PlacementId
    destination: str
    agreement_id: AgreementId | None = None
    product_id: ProductId | None = None
    promoter_id: PromoterId | None = None
    storefront_id: StorefrontId | None = None
    expires_at: datetime | None = None
    proposal_id: ProposalId | None = None


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """Everything that some new links name and the actor may see."""

    brand_id: BrandId
    now: datetime
    placements: Mapping[PlacementId, PlacementRow]
    agreements: Mapping[AgreementId, AgreementRow]
    versions: Mapping[AgreementId, VersionInForce]
    products: Mapping[ProductId, ProductRow]
    skus: Mapping[ProductId, Sequence[str]]
    promoters: Mapping[PromoterId, PromoterRow]
    deep_links: Mapping[StorefrontId, DeepLinkRow]


def new_code() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))


async def facts_of(session: AsyncSession, actor: Actor, links: Sequence[NewLink], now: datetime) -> LinkFacts:
    """Seven statements at most, for any number of links; none for what no link names."""
    agreement_ids = _named(link.agreement_id for link in links)
    product_ids = _named(link.product_id for link in links)
    promoter_ids = _named(link.promoter_id for link in links)
    storefront_ids = _named(link.storefront_id for link in links)
    placements = await audiences.placements_named(session, _named(link.placement_id for link in links))
    agreements = await queries.agreements_of(session, actor, agreement_ids) if agreement_ids else {}
    versions = await queries.versions_in_force(session, agreement_ids, now) if agreement_ids else {}
    products = await catalog.products_of(session, actor, product_ids) if product_ids else {}
    variants = await catalog.variants_of(session, product_ids) if product_ids else {}
    promoters = await queries.promoters_named(session, actor, promoter_ids) if promoter_ids else {}
    opened = await deep_links.deep_links_of(session, storefront_ids) if storefront_ids else {}
    skus = {product_id: [each.sku for each in found] for product_id, found in variants.items()}
    return LinkFacts(actor.brand_id, now, placements, agreements, versions, products, skus, promoters, opened)


def link_row(link: NewLink, facts: LinkFacts, policy: DestinationPolicy) -> dict[str, Any]:
    """The row of one link, with an id and a code of its own.

    Raises ``BadDestination``, ``PlacementNotFound``, ``AgreementNotFound``, ``AgreementNotActive``,
    ``ProductNotFound``, ``NotInScope``, ``PromoterNotFound``, ``DeepLinkNotFound``, ``BadDeepLink``.
    """
    destination = policy.checked(link.destination)
    if link.expires_at is not None and link.expires_at <= facts.now:
        raise BadDestination("a link expires in the future", field="expiresAt")
    placement = facts.placements.get(link.placement_id)
    if placement is None or placement.brand_id != facts.brand_id:
        raise PlacementNotFound("no such placement", field="placementId")
    advertiser_id = _advertiser(link, facts)
    if link.promoter_id is not None and link.promoter_id not in facts.promoters:
        raise PromoterNotFound("no such promoter", field="promoterId")
    code = new_code()
    return {
        "id": LinkId.new(), "code": code, "agreement_id": link.agreement_id, "advertiser_id": advertiser_id,
        "promoter_brand_id": facts.brand_id, "community_id": placement.community_id,
        "placement_id": link.placement_id, "promoter_id": link.promoter_id, "product_id": link.product_id,
        "proposal_id": link.proposal_id, "destination": destination, "status": LinkStatus.ACTIVE,
        "created_at": facts.now, "expires_at": link.expires_at,
        "in_app_destination": _in_app(link, facts, code, advertiser_id),
    }  # fmt: skip


def _named(ids: Any) -> list[Any]:
    return list(dict.fromkeys(each for each in ids if each is not None))


def _advertiser(link: NewLink, facts: LinkFacts) -> BrandId:
    """Who pays for what this link sells, once the agreement and the product are found to allow it."""
    product = None
    if link.product_id is not None:
        product = facts.products.get(link.product_id)
        if product is None:
            raise ProductNotFound("no such product", field="productId")
    if link.agreement_id is None:
        if product is not None and product.brand_id != facts.brand_id:
            raise NotInScope("another brand's product needs an agreement", field="agreementId")
        return facts.brand_id
    found = facts.agreements.get(link.agreement_id)
    if found is None:
        raise AgreementNotFound("no such agreement", field="agreementId")
    if found.promoter_brand_id != facts.brand_id:
        raise AgreementNotFound("your brand is not the promoter here", field="agreementId")
    in_force = facts.versions.get(link.agreement_id)
    if found.status is not AgreementStatus.ACTIVE or in_force is None:
        raise AgreementNotActive(link.agreement_id, found.status)
    if product is not None:
        covered = in_force.terms.scope.covers(product.id, product.category, facts.skus.get(product.id, ()))
        if product.brand_id != found.advertiser_id or not covered:
            raise NotInScope("this agreement does not cover the product", field="productId")
    return found.advertiser_id


def _in_app(link: NewLink, facts: LinkFacts, code: str, advertiser_id: BrandId) -> str | None:
    if link.storefront_id is None:
        return None
    found = facts.deep_links.get(link.storefront_id)
    # A third brand's mini-program would sell what nobody agreed on.
    if found is None or found.brand_id not in (facts.brand_id, advertiser_id):
        raise DeepLinkNotFound("this storefront opens no mini-program", field="storefrontId")
    return deep_links.filled(found.templates, code=code, product_id=link.product_id)
