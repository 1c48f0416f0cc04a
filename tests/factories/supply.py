"""Suppliers with stock, in one call. Ids are fresh; only what a test names is special."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import Clock
from core.ids import (
    BrandId,
    CheckoutId,
    FulfillmentOrderId,
    LocationId,
    OrderId,
    OrderLineId,
    ReservationId,
    SupplierId,
    VariantId,
)
from core.money import Money
from supply.fulfillment import service as fulfillment
from supply.fulfillment.service import NewFulfillmentLine, NewFulfillmentOrder
from supply.inventory import service as inventory
from supply.inventory.feed import StockRow
from supply.routing import service as routing
from supply.routing.eligibility import LineFact, OrderNeed
from supply.routing.handlers import freight_of
from supply.routing.models import RoutingMode
from supply.routing.router import LineDecision
from supply.suppliers import service as suppliers
from supply.suppliers.models import AcceptMode, BrandRelation
from supply.suppliers.service import NewLocation, OfferTerms, RateToZone


def supplier_actor(supplier_id: SupplierId | None = None) -> Actor:
    return Actor(ActorKind.SUPPLIER, supplier_id or SupplierId.new())


@dataclass(frozen=True, slots=True)
class SuppliedFrom:
    """A supplier with one location, and what it offers there."""

    actor: Actor
    location_id: LocationId
    brand_id: BrandId
    offers: Mapping[VariantId, int] = field(default_factory=dict)

    @property
    def supplier_id(self) -> SupplierId:
        return self.actor.supplier_id


async def supplier(
    session: AsyncSession,
    clock: Clock,
    *,
    stock: Mapping[VariantId, int] | None = None,
    brand_id: BrandId | None = None,
    name: str = "Hangzhou Works",
    costs: Mapping[VariantId, int] | None = None,
    unit_cost_minor: int = 1_000,
    base_freight_minor: int = 500,
    handling_minor: int = 0,
    currency: str = "CNY",
    country: str = "CN",
    zones: Sequence[str] = ("CN",),
    accept_mode: AcceptMode = AcceptMode.MANUAL,
    accept_sla_min: int = 1440,
    lead_time_hours: int = 24,
) -> SuppliedFrom:
    """``stock``: units on the shelf by variant, each offered at ``costs`` or ``unit_cost_minor``."""
    actor, brand_id = supplier_actor(), brand_id or BrandId.new()
    stock = stock or {}
    await suppliers.register(
        session, supplier_id=actor.supplier_id, name=name, clock=clock, accept_mode=accept_mode,
        accept_sla_min=accept_sla_min,
    )  # fmt: skip
    location_id = await suppliers.create_location(
        session,
        actor,
        NewLocation("main", name, country, Money(handling_minor, currency)),
        clock=clock,
    )
    await suppliers.set_zone_rates(
        session,
        actor,
        location_id,
        [RateToZone(zone, Money(base_freight_minor, currency)) for zone in zones],
        clock=clock,
    )
    await suppliers.set_brand_rule(
        session, SYSTEM, supplier_id=actor.supplier_id, relation=BrandRelation.AUTHORISED, brand_id=brand_id,
        clock=clock,
    )  # fmt: skip
    costs = {variant: (costs or {}).get(variant, unit_cost_minor) for variant in stock}
    await suppliers.put_offers(
        session,
        actor,
        [
            OfferTerms(
                location_id, variant, brand_id, f"SKU-{variant.hex[-6:]}", Money(cost, currency),
                lead_time_hours=lead_time_hours,
            )
            for variant, cost in costs.items()
        ],
        clock=clock,
    )  # fmt: skip
    rows = [StockRow(location_id, variant, brand_id, count=units) for variant, units in stock.items()]
    for start in range(0, len(rows), 1_000):
        await inventory.apply_stock(session, actor.supplier_id, rows[start : start + 1_000], clock=clock)
    return SuppliedFrom(actor, location_id, brand_id, costs)


async def hold(
    session: AsyncSession,
    clock: Clock,
    source: SuppliedFrom,
    quantities: Mapping[VariantId, int],
    *,
    reference: CheckoutId | None = None,
    committed: bool = False,
) -> list[ReservationId]:
    """One reservation per variant, in the given order."""
    requests = [
        inventory.StockRequest(OrderLineId.new(), source.location_id, variant, quantity)
        for variant, quantity in quantities.items()
    ]
    now = clock.now()
    ids = list(
        (
            await inventory.reserve(
                session,
                requests,
                reference=reference or CheckoutId.new(),
                expires_at=now + timedelta(minutes=30),
                now=now,
            )
        ).values()
    )
    if committed:
        await inventory.commit(session, ids, now=now)
    return ids


ADDRESS = {"name": "王芳", "line1": "Huaihai Rd 1", "city": "Shanghai", "country": "CN", "region": "SH"}


async def routed_order(
    session: AsyncSession,
    clock: Clock,
    brand_id: BrandId,
    quantities: Mapping[VariantId, int],
    *,
    zone: str = "CN-SH",
    currency: str = "CNY",
    paid: bool = True,
) -> tuple[OrderId, list[FulfillmentOrderId]]:
    """Routed, reserved, recorded and (when ``paid``) submitted, as a checkout does it."""
    order_id, reference, now = OrderId.new(), CheckoutId.new(), clock.now()
    line_variants = {OrderLineId.new(): variant for variant in quantities}
    need = OrderNeed(
        lines=tuple(
            LineFact(str(line), str(variant), quantities[variant]) for line, variant in line_variants.items()
        ),
        brand_id=str(brand_id), dest_zone=zone, currency=currency, at=now,
    )  # fmt: skip
    planned = await routing.plan(session, need, mode=RoutingMode.CHECKOUT)
    assert not planned.unfilled, [c.reject_code for c in planned.candidates]
    await routing.record(session, planned, order_id=order_id, mode=RoutingMode.CHECKOUT)
    chosen: dict[str, list[LineDecision]] = {}
    for decision in planned.decisions:
        chosen.setdefault(str(decision.location_id), []).append(decision)
    held = await inventory.reserve(
        session,
        [
            inventory.StockRequest(
                OrderLineId.parse(d.line_id), LocationId.parse(location),
                line_variants[OrderLineId.parse(d.line_id)], d.quantity,
            )
            for location, decisions in chosen.items()
            for d in decisions
        ],
        reference=reference, expires_at=now + timedelta(minutes=30), now=now,
    )  # fmt: skip
    new = [
        NewFulfillmentOrder(
            order_id, reference, brand_id, SupplierId.parse(decisions[0].supplier_id or ""),
            LocationId.parse(location), ADDRESS, zone, Money(freight_of(decisions), currency),
            tuple(
                NewFulfillmentLine(
                    OrderLineId.parse(d.line_id), line_variants[OrderLineId.parse(d.line_id)],
                    "SKU", "Cream", d.quantity, Money((d.cost.goods_minor if d.cost else 0) // d.quantity, currency),
                    held[OrderLineId.parse(d.line_id), LocationId.parse(location)],
                )
                for d in decisions
            ),
        )
        for location, decisions in chosen.items()
    ]  # fmt: skip
    ids = await fulfillment.create(session, new, clock=clock)
    if paid:
        await inventory.commit(session, list(held.values()), now=now)
        await fulfillment.release_for_submission(session, [order_id], clock=clock)
    return order_id, ids
