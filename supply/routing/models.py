"""What was decided about an order, out of which candidates, and why."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import BrandId, LocationId, OfferId, OrderId, OrderLineId, RoutingRunId, SupplierId
from infra.db.base import Row, currency_field, id_field, minor_field, utc_field


class RoutingMode(StrEnum):
    CHECKOUT = "checkout"
    REROUTE = "reroute"
    BATCH = "batch"
    WHAT_IF = "what_if"


class RoutingRun(Row, table=True):
    """``input`` is everything the choice depended on; ``input_hash`` its canonical SHA-256."""

    __tablename__ = "routing_runs"
    __table_args__ = (Index("ix_routing_runs_order_id", "order_id", "created_at"),)

    id: RoutingRunId = id_field(RoutingRunId, primary_key=True)
    order_id: OrderId = id_field(OrderId)
    brand_id: BrandId = id_field(BrandId)
    mode: RoutingMode = Field(sa_type=String)
    previous_run_id: RoutingRunId | None = id_field(RoutingRunId, nullable=True)
    policy_version: int
    algorithm: str
    code_version: str
    input: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    input_hash: str
    currency: str = currency_field()
    cost_minor: int = minor_field()
    lower_bound_minor: int | None = minor_field(nullable=True)
    """Proven; equal to the cost where the algorithm is exact."""
    cheapest_per_line_minor: int | None = minor_field(nullable=True)
    """What taking each line from its own cheapest location would have cost, freight included."""
    duration_us: int = Field(sa_type=BigInteger)
    created_at: datetime = utc_field()


class RoutingCandidate(Row, table=True):
    __tablename__ = "routing_candidates"

    run_id: RoutingRunId = id_field(RoutingRunId, primary_key=True, foreign_key="routing_runs.id")
    line_id: OrderLineId = id_field(OrderLineId, primary_key=True)
    location_id: LocationId = id_field(LocationId, primary_key=True)
    piece: int = Field(primary_key=True)
    quantity: int = Field(sa_type=BigInteger)
    offer_id: OfferId = id_field(OfferId)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    eligible: bool
    reject_code: str | None = None
    cost: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB, nullable=True))
    chosen: bool


class RoutingDecision(Row, table=True):
    __tablename__ = "routing_decisions"

    run_id: RoutingRunId = id_field(RoutingRunId, primary_key=True, foreign_key="routing_runs.id")
    line_id: OrderLineId = id_field(OrderLineId, primary_key=True)
    piece: int = Field(primary_key=True)
    """Counts from 0; a line that was not cut is its piece 0."""
    brand_id: BrandId = id_field(BrandId)
    quantity: int = Field(sa_type=BigInteger)
    offer_id: OfferId | None = id_field(OfferId, nullable=True)
    """Absent, with supplier and location, for units that nobody serves."""
    supplier_id: SupplierId | None = id_field(SupplierId, nullable=True)
    location_id: LocationId | None = id_field(LocationId, nullable=True)
    cost: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB, nullable=True))
    runner_up_location_id: LocationId | None = id_field(LocationId, nullable=True)
    margin_minor: int = minor_field()
