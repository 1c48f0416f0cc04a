"""Orders sold under agreements of a campaign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock, FixedClock
from core.ids import OrderId, OrderLineId, ProductId
from marketplace.promotion import service
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.service import Attributed, LineForAttribution, OrderForAttribution
from tests.factories import promotion as make

_BUDGET = text(
    "SELECT limit_minor, reserved_minor, spent_minor FROM campaign_budgets WHERE campaign_id = :id"
)


async def link_token(
    session: AsyncSession,
    merchant: Actor,
    promoter: Actor,
    clock: FixedClock,
    campaign_id: CampaignId | None,
    terms: Terms = make.TEN_PERCENT,
) -> str:
    """A click, now, through a link of a new agreement in the campaign."""
    market = await make.market(session, merchant, promoter, clock, terms, Origin(campaign_id))
    return await make.click(session, await make.link(session, market, clock), clock.now())


def line(basis_minor: int, *, sku: str = "sku-1") -> LineForAttribution:
    return LineForAttribution(
        OrderLineId.new(), ProductId.new(), sku, "beauty/skin", quantity=1, gross_minor=basis_minor
    )


def order_of(
    merchant: Actor, clock: Clock, tokens: Sequence[str], *lines: LineForAttribution, **more: Any
) -> OrderForAttribution:
    now = clock.now()
    facts: dict[str, Any] = {"currency": "CNY", "created_at": now, "paid_at": now, **more}
    return OrderForAttribution(
        OrderId.new(), merchant.brand_id, lines=lines, touch_tokens=list(tokens), **facts
    )


async def sell(session: AsyncSession, order: OrderForAttribution, clock: Clock) -> Attributed:
    """Attributed and, from what was stored, found the same again."""
    done = await service.attribute(session, order, signer=make.SIGNER, clock=clock)
    assert (await service.explain_attribution(session, SYSTEM, done.order_id)).verified
    return done


def earned(done: Attributed) -> int:
    return sum(each.commission_minor for each in done.lines)


async def budget(session: AsyncSession, campaign_id: CampaignId) -> tuple[int, int, int]:
    """(limit, reserved, spent)"""
    row = (await session.execute(_BUDGET, {"id": campaign_id})).one()
    return row.limit_minor, row.reserved_minor, row.spent_minor
