"""audiences

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"

_NOW = sa.DateTime(timezone=True)
_TABLES = (
    "placements", "contact_tags", "community_members", "communities", "contact_identifiers", "contacts",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _people()
    _groups()
    for table in _TABLES:
        op.execute(f"CALL protect_tenant_rows('{table}'::regclass, 'brand_id')")


def _people() -> None:
    op.create_table(
        "contacts",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("locale", sa.String, nullable=False),
        sa.Column("country", sa.String),
        sa.Column("currency", sa.CHAR(3)),
        sa.Column("created_at", _NOW, nullable=False),
    )
    op.create_index("ix_contacts_brand_id_id", "contacts", ["brand_id", "id"])
    op.create_table(
        "contact_identifiers",
        sa.Column("brand_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("subject_key", sa.LargeBinary, primary_key=True),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("contact_id", sa.Uuid, sa.ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('phone','email','wechat_unionid','wechat_openid','wecom_user','customer','device')",
            name="known_kind",
        ),
        sa.CheckConstraint("octet_length(subject_key) = 32", name="whole_key"),
    )
    op.create_index("ix_contact_identifiers_contact_id", "contact_identifiers", ["contact_id"])
    op.create_table(
        "contact_tags",
        sa.Column("contact_id", sa.Uuid, sa.ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag", sa.String, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("confidence_ppm", sa.Integer, nullable=False),
        sa.Column("tagged_at", _NOW, nullable=False),
        sa.CheckConstraint("source IN ('manual','imported','rule','event')", name="known_source"),
        sa.CheckConstraint("confidence_ppm BETWEEN 1 AND 1000000", name="sane_confidence"),
    )
    op.create_index("ix_contact_tags_brand_id_tag", "contact_tags", ["brand_id", "tag"])


def _groups() -> None:
    op.create_table(
        "communities",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("locale", sa.String, nullable=False),
        sa.Column("region", sa.String, nullable=False),
        sa.Column("tags", ARRAY(sa.String), nullable=False),
        sa.Column("declared_size", sa.Integer, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.CheckConstraint(
            "channel IN ('wecom_group','wechat_group','mini_program','mailing_list','live_room',"
            "'member_club')",
            name="known_channel",
        ),
        sa.CheckConstraint("declared_size >= 0", name="sane_size"),
    )
    op.create_index("ix_communities_brand_id_id", "communities", ["brand_id", "id"])
    op.create_table(
        "community_members",
        sa.Column(
            "community_id", sa.Uuid, sa.ForeignKey("communities.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("contact_id", sa.Uuid, sa.ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("tier", sa.String, nullable=False),
        sa.Column("points", sa.BigInteger, nullable=False),
        sa.Column("joined_at", _NOW, nullable=False),
    )
    op.create_index("ix_community_members_contact_id", "community_members", ["contact_id"])
    op.create_table(
        "placements",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("community_id", sa.Uuid, sa.ForeignKey("communities.id"), nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.CheckConstraint("kind IN ('post','menu','parcel_card','live_slot')", name="known_kind"),
    )
    op.create_index("ix_placements_community_id", "placements", ["community_id"])


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
