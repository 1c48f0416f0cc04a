"""The verbs of matching: propose, place, and learn from what was bought."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import PlacementId, PromoterId, ProposalId
from infra.db.base import table_of
from marketplace.audiences import queries as audiences
from marketplace.matching.errors import WrongCommunity
from marketplace.matching.models import Purchase
from marketplace.matching.proposing import Proposed as Proposed
from marketplace.matching.proposing import proposal as proposal
from marketplace.matching.proposing import propose_communities as propose_communities
from marketplace.matching.proposing import propose_products as propose_products
from marketplace.promotion import service as promotion
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.queries import PurchaseFact as PurchaseFact
from marketplace.promotion.service import CreatedLink

_NEW_PURCHASES = upsert(table_of(Purchase)).on_conflict_do_nothing(index_elements=["order_line_id"])


async def record_purchases(session: AsyncSession, purchases: Sequence[PurchaseFact]) -> None:
    """Learn what was bought; lines learnt before are passed over. Needs a SYSTEM session."""
    rows = [
        {
            "order_line_id": each.order_line_id, "order_id": each.order_id, "merchant_id": each.merchant_id,
            "seller_id": each.seller_id, "community_id": each.community_id, "buyer": each.buyer,
            "product_id": each.product_id, "quantity": each.quantity, "bought_at": each.bought_at,
        }
        for each in purchases
    ]  # fmt: skip
    if rows:
        await session.execute(_NEW_PURCHASES, rows)


async def link_from_proposal(
    session: AsyncSession,
    actor: Actor,
    proposal_id: ProposalId,
    *,
    placement_id: PlacementId,
    destination: str,
    promoter_id: PromoterId | None = None,
    policy: DestinationPolicy,
    clock: Clock,
) -> CreatedLink:
    """A tracked link for what was proposed, in a slot of the proposal's community.

    What has changed since the proposal was made is checked again. Raises ``ProposalNotFound``,
    ``WrongCommunity``, and what ``create_link`` raises.
    """
    found = await proposal(session, actor, proposal_id)
    placement = await audiences.placement(session, actor, placement_id)
    if placement.community_id != found.community_id:
        raise WrongCommunity("this slot is in another community", field="placementId")
    return await promotion.create_link(
        session,
        actor,
        agreement_id=found.agreement_id,
        placement_id=placement_id,
        destination=destination,
        product_id=found.product_id,
        promoter_id=promoter_id,
        proposal_id=proposal_id,
        policy=policy,
        clock=clock,
    )
