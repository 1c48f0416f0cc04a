"""Tables of people and the groups a brand can reach them in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from core.ids import BrandId, CommunityId, ContactId, PlacementId
from infra.db.base import IdColumn, Row, currency_field, id_field, minor_field, one_of, utc_field


class IdentifierKind(StrEnum):
    PHONE = "phone"
    EMAIL = "email"
    WECHAT_UNIONID = "wechat_unionid"
    WECHAT_OPENID = "wechat_openid"
    WECOM_USER = "wecom_user"
    CUSTOMER = "customer"
    """A customer id of one storefront."""
    DEVICE = "device"


class CommunityChannel(StrEnum):
    WECOM_GROUP = "wecom_group"
    WECHAT_GROUP = "wechat_group"
    MINI_PROGRAM = "mini_program"
    MAILING_LIST = "mailing_list"
    LIVE_ROOM = "live_room"
    MEMBER_CLUB = "member_club"


class PlacementKind(StrEnum):
    POST = "post"
    MENU = "menu"
    PARCEL_CARD = "parcel_card"
    LIVE_SLOT = "live_slot"


class TagSource(StrEnum):
    MANUAL = "manual"
    IMPORTED = "imported"
    RULE = "rule"
    EVENT = "event"


class Contact(Row, table=True):
    """A person as one brand knows them. Locale, country and currency are the person's, not the channel's."""

    __tablename__ = "contacts"
    __table_args__ = (Index("ix_contacts_brand_id_id", "brand_id", "id"),)

    id: ContactId = id_field(ContactId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    locale: str
    country: str | None = None
    currency: str | None = currency_field(default=None, nullable=True)
    created_at: datetime = utc_field()


class ContactIdentifier(Row, table=True):
    """``subject_key`` is found by hash alone; ``ciphertext`` is read only where consent allows it."""

    __tablename__ = "contact_identifiers"
    __table_args__ = (
        one_of("kind", IdentifierKind, name="known_kind"),
        CheckConstraint("octet_length(subject_key) = 32", name="whole_key"),
        Index("ix_contact_identifiers_contact_id", "contact_id"),
    )

    brand_id: BrandId = Field(sa_type=IdColumn(BrandId), primary_key=True)
    kind: IdentifierKind = Field(sa_type=String, primary_key=True)
    subject_key: bytes = Field(sa_type=LargeBinary, primary_key=True)
    ciphertext: bytes = Field(sa_type=LargeBinary)
    contact_id: ContactId = id_field(ContactId, foreign_key="contacts.id", ondelete="CASCADE")


class ContactTag(Row, table=True):
    __tablename__ = "contact_tags"
    __table_args__ = (
        one_of("source", TagSource, name="known_source"),
        CheckConstraint("confidence_ppm BETWEEN 1 AND 1000000", name="sane_confidence"),
        Index("ix_contact_tags_brand_id_tag", "brand_id", "tag"),
    )

    contact_id: ContactId = Field(
        sa_type=IdColumn(ContactId), primary_key=True, foreign_key="contacts.id", ondelete="CASCADE"
    )
    tag: str = Field(primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    source: TagSource = Field(sa_type=String)
    confidence_ppm: int
    tagged_at: datetime = utc_field()


class Community(Row, table=True):
    """A group, mini-program club, mailing list or live room. ``region`` is a country or ``CN-SH``."""

    __tablename__ = "communities"
    __table_args__ = (
        one_of("channel", CommunityChannel, name="known_channel"),
        CheckConstraint("declared_size >= 0", name="sane_size"),
        Index("ix_communities_brand_id_id", "brand_id", "id"),
    )

    id: CommunityId = id_field(CommunityId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    name: str
    channel: CommunityChannel = Field(sa_type=String)
    locale: str
    region: str
    tags: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    declared_size: int
    created_at: datetime = utc_field()


class CommunityMember(Row, table=True):
    __tablename__ = "community_members"
    __table_args__ = (Index("ix_community_members_contact_id", "contact_id"),)

    community_id: CommunityId = Field(
        sa_type=IdColumn(CommunityId), primary_key=True, foreign_key="communities.id", ondelete="CASCADE"
    )
    contact_id: ContactId = Field(
        sa_type=IdColumn(ContactId), primary_key=True, foreign_key="contacts.id", ondelete="CASCADE"
    )
    brand_id: BrandId = id_field(BrandId)
    tier: str
    points: int = minor_field()
    joined_at: datetime = utc_field()


class Placement(Row, table=True):
    """A slot of a community where something can be shown."""

    __tablename__ = "placements"
    __table_args__ = (
        one_of("kind", PlacementKind, name="known_kind"),
        Index("ix_placements_community_id", "community_id"),
    )

    id: PlacementId = id_field(PlacementId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    community_id: CommunityId = id_field(CommunityId, foreign_key="communities.id")
    kind: PlacementKind = Field(sa_type=String)
    name: str
    created_at: datetime = utc_field()
