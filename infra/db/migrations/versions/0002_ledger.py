"""The ledger: accounts, journals, entries, balances, and the functions that alone write them.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

from infra.db.migrations.statements import run_sql

revision = "0002"
down_revision = "0001"


class _Xid8(UserDefinedType[int]):
    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "xid8"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "ledger_accounts",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("tenant_id", sa.Uuid),
        sa.Column("side", sa.SmallInteger, nullable=False),
        sa.Column("strict", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_accounts"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="ck_ledger_accounts_currency"),
        sa.CheckConstraint("side IN (1, -1)", name="ck_ledger_accounts_side"),
    )
    key = ["code", "owner", "currency"]
    op.create_index("uq_ledger_accounts_code_owner_currency", "ledger_accounts", key, unique=True)
    op.create_index("ix_ledger_accounts_owner", "ledger_accounts", ["owner"])
    owned = sa.text("tenant_id IS NOT NULL")
    op.create_index("ix_ledger_accounts_tenant_id", "ledger_accounts", ["tenant_id"], postgresql_where=owned)
    op.create_table(
        "ledger_journals",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("idem", sa.String, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("order_id", sa.Uuid),
        sa.Column("provider_ref", sa.String),
        sa.Column("memo", sa.String),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_journals"),
    )
    op.create_index("uq_ledger_journals_idem", "ledger_journals", ["idem"], unique=True)
    ordered = sa.text("order_id IS NOT NULL")
    op.create_index("ix_ledger_journals_order_id", "ledger_journals", ["order_id"], postgresql_where=ordered)
    op.create_table(
        "ledger_entries",
        sa.Column("journal_id", sa.Uuid, nullable=False),
        sa.Column("leg", sa.SmallInteger, nullable=False),
        sa.Column("account_id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("txid", _Xid8(), nullable=False),
        sa.Column("balance_after", sa.BigInteger),
        sa.Column("account_version", sa.BigInteger),
        sa.PrimaryKeyConstraint("journal_id", "leg", name="pk_ledger_entries"),
        sa.CheckConstraint("amount_minor <> 0", name="ck_ledger_entries_amount_not_zero"),
        postgresql_partition_by="RANGE (journal_id)",
    )
    op.create_index(
        "ix_ledger_entries_account_id_txid",
        "ledger_entries",
        ["account_id", "txid"],
        postgresql_include=["amount_minor"],
    )
    op.create_table(
        "ledger_balances",
        sa.Column("account_id", sa.Uuid, nullable=False),
        sa.Column("side", sa.SmallInteger, nullable=False),
        sa.Column("strict", sa.Boolean, nullable=False),
        sa.Column("posted_minor", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("rolled_to", _Xid8(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_ledger_balances"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["ledger_accounts.id"], name="fk_ledger_balances_account_id_ledger_accounts"
        ),
        sa.CheckConstraint("NOT strict OR posted_minor >= 0", name="ck_ledger_balances_not_overdrawn"),
        # Room for updates in place: a party's row moves with every posting.
        postgresql_with={"fillfactor": "40"},
    )
    op.create_table(
        "ledger_carried",
        sa.Column("account_id", sa.Uuid, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_ledger_carried"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["ledger_accounts.id"], name="fk_ledger_carried_account_id_ledger_accounts"
        ),
    )
    for script in ("0002_ledger.sql", "0002_ledger_posting.sql", "0002_ledger_partitions.sql"):
        run_sql(script)


def downgrade() -> None:
    op.execute("DROP VIEW ledger_balances_now, ledger_chart")
    for name in ("journals", "balances", "carried", "entries", "accounts"):
        op.execute(f"DROP TABLE ledger_{name} CASCADE")
    op.execute("DROP SCHEMA ledger_partitions CASCADE")
    op.execute("DROP PROCEDURE ledger_guard")
    for name in (
        "post_batch",
        "post_journal",
        "hold_balances",
        "roll_up_ledger",
        "make_ledger_partitions",
        "detach_ledger_partition",
        "ledger_first_id",
        "ledger_overdrawing",
        "ledger_well_formed",
        "ledger_malformed",
        "ledger_open_accounts",
        "ledger_account_id",
        "ledger_side",
        "ledger_strict",
        "ledger_body_hash",
        "ledger_must_balance",
        "ledger_is_history",
    ):
        op.execute(f"DROP FUNCTION {name}")
