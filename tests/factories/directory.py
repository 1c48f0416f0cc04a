"""Partner profiles and their sales for tests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import CommissionLineId, DecisionId, OrderId, OrderLineId, TouchId
from marketplace.promotion import queries, service
from marketplace.promotion.directory import publishing
from marketplace.promotion.directory.models import AudienceBand, PartnerRole
from marketplace.promotion.directory.profile import PartnerProfile
from marketplace.promotion.touches.clicks import Click
from tests.factories import promotion
from tests.factories.promotion import Market

_DECISION = text(
    "INSERT INTO attribution_decisions (id, order_id, advertiser_id, promoter_brand_ids, rule_version, input,"
    " input_hash, amounts, amounts_hash, result, result_hash, decided_at)"
    " VALUES (:id, :order, :advertiser, :promoters, '', '', '', '', '', '', '', :at)"
)
_LINE = text(
    "INSERT INTO commission_lines (id, decision_id, order_id, order_line_id, agreement_id, agreement_version,"
    " advertiser_id, promoter_brand_id, touch_id, link_id, rule_id, rate_ppm, currency, basis_minor,"
    " commission_minor, refunded_basis_minor, reversed_minor, status, return_window_days, created_at,"
    " expected_pay_at, sold_at, gross_minor, new_customer, opens_order)"
    " VALUES (:id, :decision, :order, :line, :agreement, 1, :advertiser, :promoter, :touch, :link, 'r000', 100000,"
    " 'CNY', 1000, 100, :refunded, 0, 'PENDING', 15, :at, CAST(:at AS timestamptz) + interval '45 days',"
    " :at, 1000, false, true)"
)
_SHARE = text(
    "INSERT INTO commission_shares (commission_line_id, position, role, payee, touch_id, earned_minor, reversed_minor)"
    " VALUES (:id, 0, 'promoter_brand', :payee, :touch, 100, 0)"
)


def profile(headline: str = "Gentle skin care 温和护肤", **facts: Any) -> PartnerProfile:
    given: dict[str, Any] = {
        "roles": (PartnerRole.ADVERTISER, PartnerRole.PROMOTER), "categories": ("beauty/skin",),
        "regions": ("CN-SH",), "audience_band": AudienceBand.FROM_10K, "rate_min_ppm": 80_000,
        "rate_max_ppm": 150_000,
    }  # fmt: skip
    return PartnerProfile(headline, **(given | facts))


async def listed(session: AsyncSession, actor: Actor, clock: Clock, **facts: Any) -> int:
    """The actor's brand in the directory. Needs a SYSTEM session: the brand may be made up."""
    await promotion.known(session, clock, actor)
    return await publishing.publish(session, actor, profile(**facts), clock=clock)


async def sales(
    session: AsyncSession, market: Market, clock: Clock, *, clicks: int, orders: int, refunded: int = 0
) -> list[OrderId]:
    """Clicks and credited orders of one agreement, all of this moment. Needs a SYSTEM session."""
    link, at = await promotion.link(session, market, clock), clock.now()
    target = await queries.link_by_code(session, link.code)
    assert target is not None
    touches = [
        Click(
            TouchId.new(), target.id, target.agreement_id, target.advertiser_id, target.promoter_brand_id, at
        )
        for _ in range(clicks)
    ]
    await service.record_clicks(session, touches)
    return [
        await _order(session, market, link.id, touches[n].id, at, refunded=1000 if n < refunded else 0)
        for n in range(orders)
    ]


async def _order(
    session: AsyncSession, market: Market, link: Any, touch: TouchId, at: datetime, *, refunded: int
) -> OrderId:
    order, decision, line = OrderId.new(), DecisionId.new(), CommissionLineId.new()
    parties = {"advertiser": market.merchant.brand_id, "order": order, "at": at}
    await session.execute(_DECISION, {**parties, "id": decision, "promoters": [market.promoter.brand_id]})
    await session.execute(
        _LINE,
        {
            **parties, "id": line, "decision": decision, "line": OrderLineId.new(),
            "agreement": market.agreement_id, "promoter": market.promoter.brand_id, "touch": touch, "link": link,
            "refunded": refunded,
        },
    )  # fmt: skip
    await session.execute(_SHARE, {"id": line, "payee": str(market.promoter.brand_id), "touch": touch})
    return order
