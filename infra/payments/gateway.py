"""The payment gateway port: what the platform asks of a provider, in the platform's words.

Amounts are integer minor units, currencies upper-case ISO 4217, times aware UTC. Every call that changes
something takes the caller's fixed ``key``: the same key with the same body has one effect, whatever is
retried. Errors: ``infra.payments.errors``. Source of the rules: money.md §0.5 to §0.8.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from core.clock import Clock

WEBHOOK_TOLERANCE_S = 300


class IntentStatus(StrEnum):
    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    REQUIRES_CAPTURE = "requires_capture"
    CANCELED = "canceled"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a rail allows; the split planner asks before it promises anything (money.md §0.7)."""

    name: str
    pools_funds: bool
    """The platform may hold what customers paid until it is split."""
    claws_back_from_individuals: bool
    claws_back_from_businesses: bool
    transfers_before_funds: bool
    """A transfer may name its source charge and succeed before the money is available."""
    asynchronous_transfers: bool
    max_receivers: int | None
    """Receivers in one split request; None is unlimited."""
    max_outward_ppm: int | None
    """Largest share of one payment that may leave to others, in ppm; None is unlimited."""
    freeze_days: int | None
    """Days after which frozen money goes to the merchant by itself; None is never."""
    idempotency_hours: int
    """How long a key is remembered. Past it: look up, never send again blindly."""
    max_requests: int | None = None
    """Split requests one payment takes; None is unlimited."""
    clawback_days: int | None = None
    """Days within which a business can give back what it was paid; None is always."""
    currencies: frozenset[str] | None = None
    """Upper-case ISO 4217; None is every one."""


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    id: str
    amount_minor: int
    amount_received_minor: int
    currency: str
    status: IntentStatus
    client_secret: str
    latest_charge_id: str | None
    transfer_group: str | None
    next_action_url: str | None
    """Where the payer must go (3-D Secure), when ``status`` is requires_action."""
    last_error_code: str | None
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refund:
    id: str
    amount_minor: int
    currency: str
    status: str
    """pending, requires_action, succeeded, failed or canceled."""
    charge_id: str | None
    intent_id: str | None
    balance_transaction_id: str | None
    failure_reason: str | None
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnectedAccount:
    id: str
    country: str | None
    default_currency: str | None
    transfers_active: bool
    payouts_enabled: bool
    details_submitted: bool
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountLink:
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Transfer:
    id: str
    amount_minor: int
    amount_reversed_minor: int
    currency: str
    destination: str
    transfer_group: str | None
    source_transaction: str | None
    balance_transaction_id: str | None
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransferReversal:
    id: str
    transfer_id: str
    amount_minor: int
    currency: str
    balance_transaction_id: str | None
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BalanceTransaction:
    """One row of the provider's own book: ``net = amount - fee``, all signed from our side."""

    id: str
    type: str
    reporting_category: str
    source_id: str | None
    amount_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    status: str
    """pending until ``available_on``, then available."""
    exchange_rate: str | None
    """Settlement units per presentment unit as a decimal string, when converted."""
    created_at: datetime
    available_on: datetime
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    id: str
    amount_minor: int
    amount_refunded_minor: int
    currency: str
    status: str
    intent_id: str | None
    disputed: bool
    balance_transaction: BalanceTransaction | None
    created_at: datetime
    instrument: str | None = None
    """A keyed digest of the card it was paid with: the same card, the same digest."""


@dataclass(frozen=True, slots=True)
class Dispute:
    id: str
    charge_id: str
    intent_id: str | None
    amount_minor: int
    currency: str
    status: str
    reason: str
    fee_minor: int
    """Fees the provider took for it, net of what it gave back."""
    created_at: datetime
    evidence_due_at: datetime | None = None
    """Last moment evidence is taken; None when there is nothing to answer."""
    evidence_submissions: int = 0
    withdrawn_minor: int = 0
    """What the provider took from the balance for it and has not given back, settlement currency, fees
    apart. An inquiry (``warning_…``) takes nothing."""
    transactions: tuple[BalanceTransaction, ...] = ()
    """Oldest first: the withdrawal, then the reinstatement when it was won."""

    @property
    def is_inquiry(self) -> bool:
        """The bank only asks; no money has moved."""
        return self.status.startswith("warning_")


@dataclass(frozen=True, slots=True)
class Payout:
    """From a balance at the provider to the holder's bank."""

    id: str
    amount_minor: int
    currency: str
    status: str
    """pending, in_transit, paid, failed or canceled. A paid one may still fail: banks send money back."""
    automatic: bool
    """By the provider's own schedule: only then its balance transactions can be listed by payout."""
    arrival_at: datetime
    balance_transaction_id: str | None
    failure_transaction_id: str | None
    failure_code: str | None
    reconciled: bool
    """The provider says which transactions make up an automatic payout."""
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Balance:
    """Signed minor units by currency."""

    available: Mapping[str, int]
    pending: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Event:
    """A verified notice. Its payload is a hint: fetch the object before acting on it."""

    id: str
    type: str
    created_at: datetime
    object_type: str
    object_id: str
    account: str | None
    payload: Mapping[str, Any]
    """``data.object`` as it was when the event happened, in the provider's shape."""


class PaymentGateway(Protocol):
    def capabilities(self) -> Capabilities: ...

    async def create_intent(
        self,
        *,
        order_ref: str,
        amount_minor: int,
        currency: str,
        key: str,
        transfer_group: str | None = None,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> PaymentIntent:
        """``order_ref`` goes into metadata as ``order_ref`` and is the transfer group unless one is given."""
        ...

    async def retrieve_intent(self, intent_id: str) -> PaymentIntent: ...

    async def confirm_intent(
        self, intent_id: str, *, payment_method: str, key: str, return_url: str | None = None
    ) -> PaymentIntent:
        """Raises ``PaymentDeclined`` when the payer's bank refuses."""
        ...

    async def cancel_intent(self, intent_id: str, *, key: str) -> PaymentIntent: ...

    def pay_page_url(
        self, intent_id: str, client_secret: str, *, return_url: str | None = None
    ) -> str | None:
        """The provider's own page for this intent, or None where the client must use the vendor's script."""
        ...

    async def retrieve_charge(self, charge_id: str) -> Charge: ...

    async def refund(
        self,
        *,
        charge_or_intent: str,
        amount_minor: int,
        key: str,
        metadata: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> Refund:
        """``reason``: duplicate, fraudulent or requested_by_customer."""
        ...

    async def cancel_refund(self, refund_id: str, *, key: str) -> Refund:
        """Only a refund that waits for the customer can be cancelled; others raise ``ProviderRefused``."""
        ...

    async def retrieve_refund(self, refund_id: str) -> Refund: ...

    async def find_refunds(self, charge_or_intent: str) -> list[Refund]:
        """All of them, the newest first."""
        ...

    async def create_account(
        self,
        *,
        party_ref: str,
        country: str,
        key: str,
        email: str | None = None,
        individual: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> ConnectedAccount: ...

    async def retrieve_account(self, account_id: str) -> ConnectedAccount: ...

    async def account_link(
        self, account_id: str, *, refresh_url: str, return_url: str, key: str
    ) -> AccountLink: ...

    async def transfer(
        self,
        *,
        destination: str,
        amount_minor: int,
        currency: str,
        key: str,
        transfer_group: str,
        source_transaction: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Transfer: ...

    async def retrieve_transfer(self, transfer_id: str) -> Transfer: ...

    async def find_transfers(self, transfer_group: str) -> list[Transfer]:
        """Every transfer of the group, newest first: the look-up after an unknown outcome."""
        ...

    async def reverse_transfer(
        self, transfer_id: str, *, amount_minor: int, key: str, metadata: Mapping[str, str] | None = None
    ) -> TransferReversal: ...

    async def find_reversals(self, transfer_id: str) -> list[TransferReversal]: ...

    async def balance(self, *, account: str | None = None) -> Balance: ...

    def balance_transactions(
        self,
        *,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        type: str | None = None,
        source: str | None = None,
        payout: str | None = None,
        account: str | None = None,
    ) -> AsyncIterator[BalanceTransaction]:
        """Newest first, all pages; ``created_from`` inclusive, ``created_to`` exclusive.

        ``source`` is the charge, refund, transfer … behind the rows, ``payout`` an automatic payout made of
        them, ``account`` the connected account whose book is read instead of ours.
        """
        ...

    async def retrieve_balance_transaction(self, transaction_id: str) -> BalanceTransaction: ...

    async def create_payout(
        self,
        *,
        amount_minor: int,
        currency: str,
        key: str,
        account: str | None = None,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> Payout:
        """From our own balance to our bank, or from ``account``'s balance to its bank."""
        ...

    async def retrieve_payout(self, payout_id: str, *, account: str | None = None) -> Payout: ...

    async def cancel_payout(self, payout_id: str, *, key: str, account: str | None = None) -> Payout: ...

    def payouts(
        self,
        *,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        status: str | None = None,
        account: str | None = None,
    ) -> AsyncIterator[Payout]:
        """Newest first, all pages; bounds as in ``balance_transactions``."""
        ...

    async def retrieve_dispute(self, dispute_id: str) -> Dispute: ...

    async def find_disputes(self, charge_or_intent: str) -> list[Dispute]: ...

    def disputes(self, *, created_from: datetime | None = None) -> AsyncIterator[Dispute]:
        """Every dispute since then, newest first: for a sweep that missed notices."""
        ...

    async def submit_evidence(
        self, dispute_id: str, *, evidence: Mapping[str, str], key: str, submit: bool = True
    ) -> Dispute:
        """Fields in the provider's names (``product_description``, ``shipping_tracking_number``, …).

        ``submit=False`` stores them only. After a submission the bank decides; nothing can be added.
        """
        ...

    async def close_dispute(self, dispute_id: str, *, key: str) -> Dispute:
        """Accept the loss. It cannot be taken back."""
        ...

    def events(
        self, *, created_from: datetime | None = None, types: Sequence[str] = ()
    ) -> AsyncIterator[Event]:
        """Newest first, all pages, at most 30 days back: what notices we should have had."""
        ...

    async def retrieve_event(self, event_id: str) -> Event: ...

    def verify_webhook(
        self, raw: bytes, header: str | None, *, clock: Clock, tolerance_s: int = WEBHOOK_TOLERANCE_S
    ) -> Event:
        """Checks the signature over the raw bytes and its age by our clock. Raises ``WebhookRejected``."""
        ...

    async def close(self) -> None: ...
