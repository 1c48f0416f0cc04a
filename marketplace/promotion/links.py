"""Tracked links, and the people who place them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import AgreementId, BrandId, LinkId, PlacementId, ProductId, PromoterId, ProposalId
from infra import outbox
from infra.db.base import table_of
from infra.db.session import driver_connection
from marketplace.audiences import queries as audiences
from marketplace.audiences.identity import IdentifierKind, IdentityVault, normalise
from marketplace.catalog import queries as catalog
from marketplace.promotion import queries
from marketplace.promotion.clicks import Click, insert_clicks
from marketplace.promotion.destinations import DestinationPolicy
from marketplace.promotion.errors import (
    AgreementNotActive,
    AgreementNotFound,
    BadDestination,
    BadPromoter,
    LinkNotFound,
    NotInScope,
    PromoterNotFound,
)
from marketplace.promotion.events import LinkCreated
from marketplace.promotion.models import (
    AgreementStatus,
    LinkStatus,
    Promoter,
    PromoterKind,
    TrackedLink,
)

# No 0/O, 1/l/I: a code is read aloud and typed from paper. 10 of 56 letters are 58 bits, not to be guessed.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
_CODE_LENGTH = 10
_LONGEST_NAME = 120
_LINKS, _PROMOTERS = table_of(TrackedLink), table_of(Promoter)


@dataclass(frozen=True, slots=True)
class CreatedLink:
    id: LinkId
    code: str
    destination: str


async def create_link(
    session: AsyncSession,
    actor: Actor,
    *,
    agreement_id: AgreementId | None,
    placement_id: PlacementId,
    destination: str,
    product_id: ProductId | None = None,
    promoter_id: PromoterId | None = None,
    expires_at: datetime | None = None,
    proposal_id: ProposalId | None = None,
    policy: DestinationPolicy,
    clock: Clock,
) -> CreatedLink:
    """A link of the actor's brand for a slot in its own community.

    ``agreement_id`` is ``None`` only for the brand's own products. Raises ``AgreementNotFound``,
    ``AgreementNotActive``, ``PlacementNotFound``, ``ProductNotFound``, ``NotInScope``, ``PromoterNotFound``,
    ``BadDestination``.
    """
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    now, destination = clock.now(), policy.checked(destination)
    if expires_at is not None and expires_at <= now:
        raise BadDestination("a link expires in the future", field="expiresAt")
    placement = await audiences.placement(session, actor, placement_id)
    advertiser_id = await _advertiser(session, actor, agreement_id, product_id, now)
    if promoter_id is not None:
        await _own_promoter(session, actor, promoter_id)
    link = CreatedLink(LinkId.new(), new_code(), destination)
    row = {
        "id": link.id, "code": link.code, "agreement_id": agreement_id, "advertiser_id": advertiser_id,
        "promoter_brand_id": actor.brand_id, "community_id": placement.community_id,
        "placement_id": placement_id, "promoter_id": promoter_id, "product_id": product_id,
        "proposal_id": proposal_id, "destination": destination, "status": LinkStatus.ACTIVE,
        "created_at": now, "expires_at": expires_at,
    }  # fmt: skip
    await session.execute(insert(_LINKS), [row])
    await outbox.record(session, LinkCreated(link.id, actor.brand_id))
    return link


async def disable_link(session: AsyncSession, actor: Actor, link_id: LinkId, *, clock: Clock) -> None:
    """It still redirects, but clicks from now on qualify for nothing. Disabling it again changes nothing."""
    actor.require("promotion:write")
    c = _LINKS.c
    mine = c.id == link_id
    if not actor.sees_everything:
        mine &= c.promoter_brand_id == actor.brand_id
    disabled = await session.execute(
        update(_LINKS)
        .where(mine, c.status == LinkStatus.ACTIVE)
        .values(status=LinkStatus.DISABLED, disabled_at=clock.now())
        .returning(c.id)
    )
    if disabled.first() is None and await session.scalar(select(c.id).where(mine)) is None:
        raise LinkNotFound("no such link", field="linkId")


async def create_promoter(
    session: AsyncSession,
    actor: Actor,
    *,
    name: str,
    kind: PromoterKind | str,
    identifiers: Sequence[tuple[IdentifierKind, str]] = (),
    payout_account: str | None = None,
    vault: IdentityVault,
    clock: Clock,
) -> PromoterId:
    """A person who promotes for the actor's brand.

    ``identifiers`` and ``payout_account`` are kept as keyed hashes, to recognise a promoter who buys through
    their own link. Raises ``BadPromoter``, ``MalformedIdentifier``.
    """
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadPromoter(f"1 to {_LONGEST_NAME} printable characters", field="name")
    keys = sorted({vault.person(id_kind, normalise(id_kind, value)) for id_kind, value in identifiers})
    promoter_id = PromoterId.new()
    row = {
        "id": promoter_id, "brand_id": actor.brand_id, "name": name, "kind": PromoterKind(kind),
        "person_keys": keys, "instrument_hashes": [], "address_hashes": [], "created_at": clock.now(),
        "payout_hash": vault.person(IdentifierKind.CUSTOMER, payout_account) if payout_account else None,
    }  # fmt: skip
    await session.execute(insert(_PROMOTERS), [row])
    return promoter_id


async def record_clicks(session: AsyncSession, clicks: Sequence[Click]) -> int:
    """Store clicks inside the caller's SYSTEM transaction; those stored before are passed over."""
    await session.flush()
    return await insert_clicks(await driver_connection(session), clicks)


def new_code() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))


async def _advertiser(
    session: AsyncSession,
    actor: Actor,
    agreement_id: AgreementId | None,
    product_id: ProductId | None,
    now: datetime,
) -> BrandId:
    """Who pays for what this link sells, once the agreement and the product are found to allow it."""
    product = await catalog.product(session, actor, product_id) if product_id is not None else None
    if agreement_id is None:
        if product is not None and product.brand_id != actor.brand_id:
            raise NotInScope("another brand's product needs an agreement", field="agreementId")
        return actor.brand_id
    found = await queries.agreement(session, actor, agreement_id)
    if found.promoter_brand_id != actor.brand_id:
        raise AgreementNotFound("your brand is not the promoter here", field="agreementId")
    in_force = await queries.version_in_force(session, agreement_id, now)
    if found.status is not AgreementStatus.ACTIVE or in_force is None:
        raise AgreementNotActive(agreement_id, found.status)
    if product is not None:
        skus = [v.sku for v in (await catalog.variants_of(session, [product.id])).get(product.id, [])]
        covered = in_force.terms.scope.covers(product.id, product.category, skus)
        if product.brand_id != found.advertiser_id or not covered:
            raise NotInScope("this agreement does not cover the product", field="productId")
    return found.advertiser_id


async def _own_promoter(session: AsyncSession, actor: Actor, promoter_id: PromoterId) -> None:
    c = _PROMOTERS.c
    wanted = select(c.id).where(c.id == promoter_id, c.brand_id == actor.brand_id)
    if await session.scalar(wanted) is None:
        raise PromoterNotFound("no such promoter", field="promoterId")
