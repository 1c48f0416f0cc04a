"""Tracked links, and the people who place them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.errors import LianyuError
from core.ids import AgreementId, LinkId, PlacementId, ProductId, PromoterId, ProposalId, StorefrontId
from infra import outbox
from infra.db.base import table_of
from infra.db.session import Database, driver_connection
from marketplace.audiences.identity import IdentifierKind, IdentityVault, normalise
from marketplace.promotion.errors import BadPromoter, BatchTooLarge, LinkNotFound, RowError
from marketplace.promotion.events import LinkCreated
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.links.link_facts import NewLink, facts_of, link_row
from marketplace.promotion.models import LinkStatus, Promoter, PromoterKind, TrackedLink
from marketplace.promotion.touches.clicks import Click, insert_clicks

LARGEST_BATCH = 1000
_EXPIRED_AT_ONCE = 1000
_LONGEST_NAME = 120
_LINKS, _PROMOTERS = table_of(TrackedLink), table_of(Promoter)
_EXPIRE = text(
    "UPDATE tracked_links SET status = 'EXPIRED' WHERE id IN (SELECT id FROM tracked_links"
    " WHERE status = 'ACTIVE' AND expires_at <= :now ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)"
    " RETURNING id"
)


@dataclass(frozen=True, slots=True)
class CreatedLink:
    id: LinkId
    code: str
    destination: str


@dataclass(frozen=True, slots=True)
class CreatedLinks:
    """``links`` by row, ``None`` where the row was refused; why is in ``errors``."""

    links: tuple[CreatedLink | None, ...]
    errors: tuple[RowError, ...] = ()


async def create_link(
    session: AsyncSession,
    actor: Actor,
    *,
    agreement_id: AgreementId | None,
    placement_id: PlacementId,
    destination: str,
    product_id: ProductId | None = None,
    promoter_id: PromoterId | None = None,
    storefront_id: StorefrontId | None = None,
    expires_at: datetime | None = None,
    proposal_id: ProposalId | None = None,
    policy: DestinationPolicy,
    clock: Clock,
) -> CreatedLink:
    """A link of the actor's brand for a slot in its own community (``link_facts.NewLink``).

    Raises what ``link_facts.link_row`` raises.
    """
    new = NewLink(
        placement_id,
        destination,
        agreement_id,
        product_id,
        promoter_id,
        storefront_id,
        expires_at,
        proposal_id,
    )
    made = await create_links(session, actor, [new], policy=policy, clock=clock)
    if made.errors:
        raise made.errors[0].error
    assert made.links[0] is not None
    return made.links[0]


async def create_links(
    session: AsyncSession,
    actor: Actor,
    links: Sequence[NewLink],
    *,
    all_or_none: bool = False,
    policy: DestinationPolicy,
    clock: Clock,
) -> CreatedLinks:
    """Up to 1,000 links at once; ten statements for any number of them.

    A row that cannot be is named in ``errors`` and the others are made; with ``all_or_none`` none is then.
    Raises ``BatchTooLarge``.
    """
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    if not 1 <= len(links) <= LARGEST_BATCH:
        raise BatchTooLarge(LARGEST_BATCH, len(links), field="links")
    facts = await facts_of(session, actor, links, clock.now())
    rows, errors, made = [], [], list[CreatedLink | None]()
    for number, link in enumerate(links, start=1):
        try:
            row = link_row(link, facts, policy)
        except LianyuError as error:
            errors.append(RowError(number, error))
            made.append(None)
            continue
        rows.append(row)
        made.append(CreatedLink(row["id"], row["code"], row["destination"]))
    if errors and all_or_none:
        return CreatedLinks((None,) * len(links), tuple(errors))
    if rows:
        await session.execute(insert(_LINKS), rows)
        await outbox.record(session, *(LinkCreated(row["id"], actor.brand_id) for row in rows))
    return CreatedLinks(tuple(made), tuple(errors))


async def expire_links(db: Database, *, clock: Clock) -> int:
    """Sweep: links whose time is over say so; how many. Their clicks qualified for nothing before it came by."""
    async with db.unit_of_work(SYSTEM) as session:
        rows = await session.execute(_EXPIRE, {"now": clock.now(), "limit": _EXPIRED_AT_ONCE})
        return len(rows.all())


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
