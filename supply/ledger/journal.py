"""What is posted: a journal of legs that sum to zero in every currency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from core.ids import OrderId, TenantId
from supply.ledger.chart import Code


@dataclass(frozen=True, slots=True, order=True)
class AccountKey:
    """Names an account; it is opened by its first posting.

    ``owner``: ``party:<id>``, ``psp:stripe``, ``platform``, ``tax:<country>``, ``customer:<refund>``,
    ``dispute:<id>``, ``fx:<currency>``. ``tenant_id`` is who may read it and is no part of the name.
    """

    code: Code
    owner: str
    currency: str
    tenant_id: TenantId | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Leg:
    """``amount_minor`` above zero debits the account, below zero credits it."""

    account: AccountKey
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Journal:
    """``key`` makes it happen once. ``kind``, ``order_id`` and ``legs`` are its body: the same key with
    another body is refused; times, reference and memo may differ between a call's answer and its webhook."""

    key: str
    kind: str
    legs: tuple[Leg, ...]
    effective_at: datetime
    order_id: OrderId | None = None
    provider_ref: str | None = None
    memo: str | None = None


def debit(account: AccountKey, amount_minor: int) -> Leg:
    return Leg(account, amount_minor)


def credit(account: AccountKey, amount_minor: int) -> Leg:
    return Leg(account, -amount_minor)


def merged(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    """One leg per account, sorted by account, without those that come to zero."""
    totals: dict[AccountKey, int] = {}
    for leg in legs:
        totals[leg.account] = totals.get(leg.account, 0) + leg.amount_minor
    return tuple(Leg(account, totals[account]) for account in sorted(totals) if totals[account])


def mirrored(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    """The legs that undo these."""
    return tuple(Leg(leg.account, -leg.amount_minor) for leg in legs)
