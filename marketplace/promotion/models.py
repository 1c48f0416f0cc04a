"""Tables of CPS: what two brands agreed, where it is shown, who touched it, and what it earned."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    FetchedValue,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from core.ids import (
    AgreementId,
    BrandId,
    CommissionLineId,
    CommunityId,
    ContactId,
    DecisionId,
    InvitationId,
    LinkId,
    OrderId,
    OrderLineId,
    PlacementId,
    ProductId,
    PromoterId,
    ProposalId,
    RefundId,
    TouchId,
)
from infra.db.base import IdColumn, Row, Xid8, currency_field, id_field, minor_field, one_of, utc_field
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.ids import CampaignId, CampaignOfferId

_OFFER_OF_A_CAMPAIGN = (
    "num_nonnulls(offer_id, offer_version) IN (0, 2) AND (offer_id IS NULL OR campaign_id IS NOT NULL)"
)


class InvitationStatus(StrEnum):
    DRAFT = "DRAFT"
    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"
    WITHDRAWN = "WITHDRAWN"


class AgreementStatus(StrEnum):
    PENDING_SIGNATURE = "PENDING_SIGNATURE"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"
    TERMINATED = "TERMINATED"


class LinkStatus(StrEnum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    EXPIRED = "EXPIRED"


class PromoterKind(StrEnum):
    KOC = "koc"
    KOL = "kol"
    STAFF = "staff"


class CommissionStatus(StrEnum):
    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    PAYABLE = "PAYABLE"
    PAID = "PAID"
    INVALID = "INVALID"
    REVERSED = "REVERSED"


class ShareRole(StrEnum):
    INDIVIDUAL = "individual"
    PROMOTER_BRAND = "promoter_brand"
    PLATFORM = "platform"


def _key(kind: type[Any], **column: Any) -> Any:
    """Part of a composite primary key that another table gives out."""
    return Field(sa_type=IdColumn(kind), primary_key=True, **column)


class Invitation(Row, table=True):
    """An offer of terms from one brand to another. A counter-offer supersedes it. Unsent, its sender's alone."""

    __tablename__ = "invitations"
    __table_args__ = (
        one_of("status", InvitationStatus, name="known_status"),
        CheckConstraint("advertiser_id <> promoter_brand_id", name="two_brands"),
        CheckConstraint("sender_id IN (advertiser_id, promoter_brand_id)", name="sender_is_a_party"),
        CheckConstraint(_OFFER_OF_A_CAMPAIGN, name="offer_of_a_campaign"),
        CheckConstraint(
            "(sent_at IS NULL) = (expires_at IS NULL) AND (sent_at IS NOT NULL OR status IN ('DRAFT', 'WITHDRAWN'))"
            " AND (sent_at IS NULL OR status <> 'DRAFT')",
            name="sent_unless_a_draft",
        ),
        ForeignKeyConstraint(["campaign_id"], ["campaigns.id"]),
        ForeignKeyConstraint(
            ["offer_id", "offer_version"], ["offer_versions.offer_id", "offer_versions.version"]
        ),
        Index("ix_invitations_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_invitations_promoter_brand_id_id", "promoter_brand_id", "id"),
        Index("ix_invitations_campaign_id", "campaign_id", postgresql_where=text("campaign_id IS NOT NULL")),
        Index("ix_invitations_offer_id", "offer_id", postgresql_where=text("offer_id IS NOT NULL")),
    )

    id: InvitationId = id_field(InvitationId, primary_key=True)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    sender_id: BrandId = id_field(BrandId)
    supersedes: InvitationId | None = id_field(
        InvitationId, default=None, nullable=True, foreign_key="invitations.id"
    )
    status: InvitationStatus = Field(sa_type=String)
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    message: str
    sent_at: datetime | None = utc_field(default=None, nullable=True)
    expires_at: datetime | None = utc_field(default=None, nullable=True)
    answered_at: datetime | None = utc_field(default=None, nullable=True)
    campaign_id: CampaignId | None = id_field(CampaignId, default=None, nullable=True)
    offer_id: CampaignOfferId | None = id_field(CampaignOfferId, default=None, nullable=True)
    offer_version: int | None = None


class Agreement(Row, table=True):
    """``current_version`` is the latest that both signed; 0 before the first.

    ``offer_version`` is what it began from. Notice was given by ``ended_by``: from ``ends_at`` on no touch earns.
    """

    __tablename__ = "agreements"
    __table_args__ = (
        one_of("status", AgreementStatus, name="known_status"),
        CheckConstraint("advertiser_id <> promoter_brand_id", name="two_brands"),
        CheckConstraint(_OFFER_OF_A_CAMPAIGN, name="offer_of_a_campaign"),
        ForeignKeyConstraint(["campaign_id"], ["campaigns.id"]),
        ForeignKeyConstraint(
            ["offer_id", "offer_version"], ["offer_versions.offer_id", "offer_versions.version"]
        ),
        UniqueConstraint("invitation_id"),
        Index("ix_agreements_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_agreements_promoter_brand_id_id", "promoter_brand_id", "id"),
        Index("ix_agreements_campaign_id", "campaign_id", postgresql_where=text("campaign_id IS NOT NULL")),
        Index("ix_agreements_offer_id", "offer_id", postgresql_where=text("offer_id IS NOT NULL")),
        Index(
            "ix_agreements_ends_at",
            "ends_at",
            postgresql_where=text("ends_at IS NOT NULL AND status NOT IN ('ENDED', 'TERMINATED')"),
        ),
    )

    id: AgreementId = id_field(AgreementId, primary_key=True)
    invitation_id: InvitationId = id_field(InvitationId, foreign_key="invitations.id")
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    status: AgreementStatus = Field(sa_type=String)
    current_version: int
    created_at: datetime = utc_field()
    campaign_id: CampaignId | None = id_field(CampaignId, default=None, nullable=True)
    offer_id: CampaignOfferId | None = id_field(CampaignOfferId, default=None, nullable=True)
    offer_version: int | None = None
    ends_at: datetime | None = utc_field(default=None, nullable=True)
    ended_by: BrandId | None = id_field(BrandId, default=None, nullable=True)
    end_reason: str | None = None


class AgreementVersion(Row, table=True):
    """Terms under a content hash. In force from the later of ``effective_at`` and the second signature."""

    __tablename__ = "agreement_versions"
    __table_args__ = (
        CheckConstraint("version >= 1", name="sane_version"),
        CheckConstraint("num_nonnulls(in_force_from, withdrawn_at) <= 1", name="one_outcome"),
    )

    agreement_id: AgreementId = _key(AgreementId, foreign_key="agreements.id")
    version: int = Field(primary_key=True)
    effective_at: datetime = utc_field()
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    content_hash: str
    proposed_by: BrandId = id_field(BrandId)
    proposed_at: datetime = utc_field()
    in_force_from: datetime | None = utc_field(default=None, nullable=True)
    withdrawn_at: datetime | None = utc_field(default=None, nullable=True)
    offer_version: int | None = None
    """Of the agreement's offer, whose terms these are."""


class AgreementSignature(Row, table=True):
    __tablename__ = "agreement_signatures"
    __table_args__ = (
        ForeignKeyConstraint(
            ["agreement_id", "version"], ["agreement_versions.agreement_id", "agreement_versions.version"]
        ),
    )

    agreement_id: AgreementId = _key(AgreementId)
    version: int = Field(primary_key=True)
    brand_id: BrandId = _key(BrandId)
    content_hash: str
    signed_by: str
    signed_at: datetime = utc_field()


class AgreementStatusChange(Row, table=True):
    """What the agreement was at any moment: a touch is judged by the state at its own time."""

    __tablename__ = "agreement_status_log"

    agreement_id: AgreementId = _key(AgreementId, foreign_key="agreements.id")
    position: int = Field(primary_key=True)
    status: AgreementStatus = Field(sa_type=String)
    reason: str
    changed_by: str
    changed_at: datetime = utc_field()


class Promoter(Row, table=True):
    """A person who promotes for a brand. Keys and hashes only tell whether a buyer is the same person."""

    __tablename__ = "promoters"
    __table_args__ = (
        one_of("kind", PromoterKind, name="known_kind"),
        Index("ix_promoters_brand_id_id", "brand_id", "id"),
        Index("ix_promoters_person_keys", "person_keys", postgresql_using="gin"),
    )

    id: PromoterId = id_field(PromoterId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    name: str
    kind: PromoterKind = Field(sa_type=String)
    person_keys: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    payout_hash: str | None = None
    instrument_hashes: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    address_hashes: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    created_at: datetime = utc_field()


class TrackedLink(Row, table=True):
    """``agreement_id`` is absent for a brand's own product. ``revision`` tells the edge what is new."""

    __tablename__ = "tracked_links"
    __table_args__ = (
        UniqueConstraint("code"),
        one_of("status", LinkStatus, name="known_status"),
        CheckConstraint(
            "agreement_id IS NOT NULL OR advertiser_id = promoter_brand_id", name="agreed_or_own"
        ),
        Index("ix_tracked_links_revision", "revision"),
        Index("ix_tracked_links_agreement_id", "agreement_id"),
        Index("ix_tracked_links_placement_id", "placement_id"),
        Index("ix_tracked_links_promoter_brand_id_id", "promoter_brand_id", "id"),
        Index("ix_tracked_links_advertiser_id_id", "advertiser_id", "id"),
        Index(
            "ix_tracked_links_expires_at",
            "expires_at",
            postgresql_where=text("status = 'ACTIVE' AND expires_at IS NOT NULL"),
        ),
        CheckConstraint(
            "in_app_destination IS NULL OR in_app_destination LIKE '%{touch}%'", name="one_touch_in_app"
        ),
    )

    id: LinkId = id_field(LinkId, primary_key=True)
    code: str
    agreement_id: AgreementId | None = id_field(
        AgreementId, default=None, nullable=True, foreign_key="agreements.id"
    )
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    community_id: CommunityId = id_field(CommunityId)
    placement_id: PlacementId = id_field(PlacementId)
    promoter_id: PromoterId | None = id_field(
        PromoterId, default=None, nullable=True, foreign_key="promoters.id"
    )
    product_id: ProductId | None = id_field(ProductId, default=None, nullable=True)
    proposal_id: ProposalId | None = id_field(ProposalId, default=None, nullable=True)
    destination: str
    status: LinkStatus = Field(sa_type=String)
    created_at: datetime = utc_field()
    disabled_at: datetime | None = utc_field(default=None, nullable=True)
    expires_at: datetime | None = utc_field(default=None, nullable=True)
    revision: int = Field(sa_column=Column(BigInteger, FetchedValue(), nullable=False))
    in_app_destination: str | None = None
    """Where WeChat goes instead: a mini-program's address with ``{touch}`` where the token goes."""


class Touch(Row, table=True):
    """One click or scan; the id is never reused. ``duplicate_of`` keeps counters honest, not ids."""

    __tablename__ = "touches"
    __table_args__ = (
        one_of("kind", TouchKind, name="known_kind"),
        Index("ix_touches_link_id_at", "link_id", "at"),
        Index("ix_touches_at", "at", postgresql_using="brin"),
        Index("ix_touches_txid", "txid"),
        Index(
            "ix_touches_session_key_at",
            "session_key",
            "at",
            postgresql_where=text("session_key IS NOT NULL"),
        ),
        Index(
            "ix_touches_contact_id_at", "contact_id", "at", postgresql_where=text("contact_id IS NOT NULL")
        ),
    )

    id: TouchId = id_field(TouchId, primary_key=True)
    link_id: LinkId = id_field(LinkId)
    agreement_id: AgreementId | None = id_field(AgreementId, default=None, nullable=True)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    at: datetime = utc_field()
    kind: TouchKind = Field(sa_type=String)
    session_key: bytes | None = Field(default=None, sa_type=LargeBinary)
    contact_id: ContactId | None = id_field(ContactId, default=None, nullable=True)
    is_bot: bool = False
    duplicate_of: TouchId | None = id_field(TouchId, default=None, nullable=True)
    ip_prefix_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    user_agent_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    referrer_host: str | None = None
    ad_parameters: str | None = None
    """Names of advertising networks' parameters that it brought along, with commas; never their values."""
    txid: int = Field(sa_column=Column(Xid8, FetchedValue(), nullable=False))
    """The transaction that brought it."""


class AttributionDecision(Row, table=True):
    """Inputs as the exact text that was hashed, so that either brand recomputes the same hash."""

    __tablename__ = "attribution_decisions"
    __table_args__ = (
        UniqueConstraint("order_id"),
        Index("ix_attribution_decisions_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_attribution_decisions_advertiser_id_decided_at", "advertiser_id", "decided_at"),
    )

    id: DecisionId = id_field(DecisionId, primary_key=True)
    order_id: OrderId = id_field(OrderId)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_ids: list[UUID] = Field(sa_column=Column(ARRAY(Uuid), nullable=False))
    rule_version: str
    input: str
    input_hash: str
    amounts: str
    amounts_hash: str
    result: str
    result_hash: str
    decided_at: datetime = utc_field()


class CommissionLine(Row, table=True):
    """What one order line earns from one agreement. Amounts are minor units of ``currency``."""

    __tablename__ = "commission_lines"
    __table_args__ = (
        UniqueConstraint("order_line_id"),
        one_of("status", CommissionStatus, name="known_status"),
        CheckConstraint("refunded_basis_minor BETWEEN 0 AND basis_minor", name="refund_within_basis"),
        CheckConstraint("reversed_minor BETWEEN 0 AND commission_minor", name="reversed_within_commission"),
        CheckConstraint(
            "denied_minor >= 0 AND reversed_minor + denied_minor <= commission_minor",
            name="denied_within_commission",
        ),
        Index("ix_commission_lines_order_id", "order_id"),
        Index("ix_commission_lines_link_id_sold_at", "link_id", "sold_at"),
        Index("ix_commission_lines_txid", "txid"),
        Index("ix_commission_lines_created_at", "created_at"),
        Index("ix_commission_lines_agreement_id_id", "agreement_id", "id"),
        Index(
            "ix_commission_lines_emptied",
            text("coalesce(next_look_at, expected_pay_at)"),
            postgresql_where=text(
                "status IN ('PENDING', 'CONFIRMED', 'PAYABLE')"
                " AND (commission_minor = 0 OR reversed_minor + denied_minor > 0)"
            ),
        ),
    )

    id: CommissionLineId = id_field(CommissionLineId, primary_key=True)
    decision_id: DecisionId = id_field(DecisionId, foreign_key="attribution_decisions.id")
    order_id: OrderId = id_field(OrderId)
    order_line_id: OrderLineId = id_field(OrderLineId)
    agreement_id: AgreementId = id_field(AgreementId, foreign_key="agreements.id")
    agreement_version: int
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    touch_id: TouchId = id_field(TouchId)
    link_id: LinkId = id_field(LinkId, foreign_key="tracked_links.id")
    rule_id: str
    rate_ppm: int
    fixed_minor: int | None = Field(default=None, sa_type=BigInteger)
    """A piece, where the rule says an amount; the rate is then for orders in other currencies."""
    currency: str = currency_field()
    basis_minor: int = minor_field()
    commission_minor: int = minor_field()
    refunded_basis_minor: int = minor_field(default=0)
    reversed_minor: int = minor_field(default=0)
    denied_minor: int = minor_field(default=0, sa_column_kwargs={"server_default": text("0")})
    """Found not earned, apart from what refunds took."""
    status: CommissionStatus = Field(sa_type=String)
    return_window_days: int
    created_at: datetime = utc_field()
    counters: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    """The caps and tiers it counts in (counters.CounterKey)."""
    expected_pay_at: datetime = utc_field()
    """When its payee can expect the money, as far as is known now."""
    next_look_at: datetime | None = utc_field(default=None, nullable=True)
    """When it is seen next whether it ends with nothing to pay (commission/nothing_to_pay.py); empty: when expected."""
    confirmed_at: datetime | None = utc_field(default=None, nullable=True)
    """When its money was released, or came back after that; its transaction in the ledger is ``confirmed_txid``."""
    confirmed_txid: int | None = Field(default=None, sa_type=BigInteger)
    payable_at: datetime | None = utc_field(default=None, nullable=True)
    """When the statement it is in was closed, or what had gone of it since came back."""
    paid_at: datetime | None = utc_field(default=None, nullable=True)
    invalid_reason: str | None = None
    sold_at: datetime = utc_field()
    """When its order was paid."""
    gross_minor: int = minor_field()
    """What the line cost before discounts; like the next two, for who counts sales."""
    new_customer: bool
    opens_order: bool
    """The first line of its order and agreement."""
    adjustment_minor: int = minor_field(default=0, sa_column_kwargs={"server_default": text("0")})
    """Of the line that opens an order: what reaching a retroactive tier with it owed for the period's earlier ones."""
    txid: int = Field(sa_column=Column(Xid8, FetchedValue(), nullable=False))
    """The transaction that changed it last."""


class CommissionCounter(Row, table=True):
    """What an agreement has paid of a cap, or sold for its tiers, in a period (limits.CounterKey)."""

    __tablename__ = "commission_counters"
    __table_args__ = (CheckConstraint("amount_minor >= 0", name="not_negative"),)

    agreement_id: AgreementId = _key(AgreementId, foreign_key="agreements.id")
    kind: str = Field(primary_key=True)
    promoter: str = Field(primary_key=True)
    period_from: datetime = utc_field(primary_key=True)
    currency: str = currency_field(primary_key=True)
    amount_minor: int = minor_field()


class CommissionShare(Row, table=True):
    """One payee's part of a commission line; ``position`` is the order of R3, one winner after another."""

    __tablename__ = "commission_shares"
    __table_args__ = (
        one_of("role", ShareRole, name="known_role"),
        CheckConstraint("reversed_minor BETWEEN 0 AND earned_minor", name="holds_no_less_than_nothing"),
        CheckConstraint(
            "denied_minor >= 0 AND reversed_minor + denied_minor <= earned_minor", name="denied_within_share"
        ),
        Index("ix_commission_shares_payee", "payee"),
        Index("ix_commission_shares_touch_id", "touch_id"),
        Index("ix_commission_shares_link_id", "link_id", postgresql_where=text("link_id IS NOT NULL")),
    )

    commission_line_id: CommissionLineId = _key(CommissionLineId, foreign_key="commission_lines.id")
    position: int = Field(primary_key=True)
    role: ShareRole = Field(sa_type=String)
    payee: str
    touch_id: TouchId = id_field(TouchId)
    link_id: LinkId | None = id_field(LinkId, default=None, nullable=True)
    """Of the touch, where it is not the line's."""
    earned_minor: int = minor_field()
    reversed_minor: int = minor_field(default=0)
    denied_minor: int = minor_field(default=0, sa_column_kwargs={"server_default": text("0")})


class CommissionDenial(Row, table=True):
    """What one denial took of one share, and whether it was undone."""

    __tablename__ = "commission_denials"
    __table_args__ = (CheckConstraint("(restored_at IS NULL) = (restored_by IS NULL)", name="restored"),)

    commission_line_id: CommissionLineId = _key(CommissionLineId, foreign_key="commission_lines.id")
    reference: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    amount_minor: int = minor_field()
    reason: str
    denied_by: str
    denied_at: datetime = utc_field()
    restored_by: str | None = None
    restored_at: datetime | None = utc_field(default=None, nullable=True)


class CommissionReversal(Row, table=True):
    """What one refund took back from one share; ``refunded_basis_minor`` is the line's total so far."""

    __tablename__ = "commission_reversals"

    refund_id: RefundId = _key(RefundId)
    commission_line_id: CommissionLineId = _key(CommissionLineId, foreign_key="commission_lines.id")
    position: int = Field(primary_key=True)
    refunded_basis_minor: int = minor_field()
    amount_minor: int = minor_field()
    reversed_at: datetime = utc_field()
