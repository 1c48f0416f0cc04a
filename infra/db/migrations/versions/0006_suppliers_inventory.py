"""Suppliers, their locations, offers and rates; stock levels and the two ledgers under them.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0006"
down_revision = "0005"

_TABLES = (
    "reservation_entries", "reservations", "stock_movements", "stock_levels", "zone_rates",
    "offer_price_changes", "supplier_offers", "brand_supplier_rules", "locations", "suppliers",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0006_suppliers_inventory.sql")


def downgrade() -> None:
    op.execute("DROP FUNCTION reserve_stock(jsonb, uuid, varchar, timestamptz, timestamptz)")
    op.execute("DROP FUNCTION sellable_stock(uuid[], text, timestamptz)")
    op.execute("DROP FUNCTION zone_serves(text, text)")
    for table in _TABLES:
        op.drop_table(table)
    op.execute("DROP PROCEDURE protect_published_supply(regclass, name)")
    op.execute("DROP PROCEDURE protect_supply_rows(regclass)")
