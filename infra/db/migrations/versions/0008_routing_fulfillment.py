"""Routing runs with their candidates, fulfilment orders, shipments, clocks and webhooks to suppliers.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0008"
down_revision = "0007"

_TABLES = (
    "webhook_deliveries", "webhook_endpoints", "tracking_events", "shipment_lines", "shipments", "sla_clocks",
    "fo_events", "fulfillment_lines", "fulfillment_orders", "routing_decisions", "routing_candidates",
    "routing_runs",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0008_routing_fulfillment.sql")


def downgrade() -> None:
    op.execute("DROP FUNCTION tracking_number_used(varchar, varchar, timestamptz)")
    for table in _TABLES:
        op.drop_table(table)
