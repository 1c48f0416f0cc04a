"""Which instructions pay an order's split on a rail, when, or every reason why the rail cannot pay it.

Pure. The rail says what it can (``Capabilities``); what the platform may hold is planned as transfers, what it
may not as instructions out of the merchant's frozen payment. Rules (money.md §0.7, decision 0014):

- what leaves to others stays within the rail's cap and within what the payment is worth after the rail's fee;
- whoever the rail takes nothing back from is paid only when returns have ended;
- a business is paid no earlier than the rail could still take it back when returns end;
- everything is sent before the freeze ends, with ``MARGIN`` to ask again;
- each payee is paid once, in requests no larger and no more than the rail takes, half of them kept for repeats;
- the rest is given to the merchant by a last request of its own, so that a failed receiver loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby

from core.money import PPM, allocate_minor
from infra.payments.gateway import Capabilities
from supply.settlement.obstacles import (
    CapExceeded,
    ClawbackNeeded,
    CurrencyNotCarried,
    FreezeEndsFirst,
    MerchantShort,
    Obstacle,
    PoolingForbidden,
    PromisedTooEarly,
    TooManyReceivers,
)

MARGIN = timedelta(days=3)
"""Kept between the last request and the end of the freeze: results are late and requests are repeated."""
FINISH_AFTER = timedelta(days=1)
"""Between the last shares and the request that gives the merchant the rest."""


class PayeeKind(StrEnum):
    MERCHANT = "merchant"
    BUSINESS = "business"
    INDIVIDUAL = "individual"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Share:
    """``due_at`` by its own terms; ``pay_by`` only where a date was promised."""

    payee_id: str
    kind: PayeeKind
    amount_minor: int
    due_at: datetime
    pay_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sale:
    """One payment. ``shares`` names everybody but the merchant, who keeps the rest (tax included) and bears the
    rail's fee. ``returns_until`` is the last moment the customer may send something back."""

    merchant_ids: tuple[str, ...]
    currency: str
    paid_minor: int
    paid_at: datetime
    returns_until: datetime
    shares: Sequence[Share]
    fee_minor: int = 0

    @property
    def outward_minor(self) -> int:
        return sum(share.amount_minor for share in self.shares)


@dataclass(frozen=True, slots=True)
class Instruction:
    payee_id: str
    kind: PayeeKind
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent at once. ``finish``: the rest is the merchant's after it; it names nobody else."""

    number: int
    send_at: datetime
    send_before: datetime | None
    instructions: tuple[Instruction, ...]
    finish: bool = False


@dataclass(frozen=True, slots=True)
class SplitPlan:
    requests: tuple[Request, ...]
    merchant_minor: int
    """What the merchant ends up with."""

    @property
    def instructions(self) -> Iterator[Instruction]:
        return (each for request in self.requests for each in request.instructions)


@dataclass(frozen=True, slots=True)
class Unpayable:
    reasons: tuple[Obstacle, ...]

    def explain(self) -> str:
        return "; ".join(reason.explain() for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class AgreementTerms:
    """What an agreement promises of a payment, at its worst. Rates are ppm of what the customer pays.

    ``individual_paid_after_days`` counts from the payment; None waits for the end of returns.
    """

    currency: str
    promoter_brand_ppm: int = 0
    individual_ppm: int = 0
    platform_ppm: int = 0
    suppliers_ppm: int = 0
    individuals: int = 1
    suppliers: int = 1
    merchants_per_payment: int = 1
    return_window_days: int = 15
    undelivered_days: int = 45
    """Without a delivery everything is due this long after the payment."""
    individual_paid_after_days: int | None = None


def plan_split(sale: Sale, rail: Capabilities) -> SplitPlan | Unpayable:
    """Every reason at once, so that whoever asks can change all of them."""
    payees = _payees(sale, rail)
    groups = _grouped(payees, rail)
    together = [share for group in groups for share in group]
    reasons = [*_amounts(sale, rail), *_dates(sale, together, rail), *_counts(payees, rail)]
    send_before = _send_before(sale, rail)
    if reasons:
        return Unpayable(tuple(reasons))
    requests = [
        Request(number, group[0].due_at, send_before, tuple(_instruction(each) for each in group))
        for number, group in enumerate(groups, 1)
    ]
    if not rail.pools_funds:
        requests.append(_finish(sale, requests, send_before))
    return SplitPlan(tuple(requests), sale.paid_minor - sale.fee_minor - sale.outward_minor)


def explain_agreement(terms: AgreementTerms, rail: Capabilities) -> tuple[Obstacle, ...]:
    """Before anybody signs: every reason why orders of this agreement could not be paid on the rail.

    Planned like an order of 1,000,000,000 minor units at its worst: delivered at the last moment, all payees there.
    """
    whole = 1_000 * PPM
    paid_at = datetime(2000, 1, 1, tzinfo=UTC)
    returns_until = paid_at + timedelta(days=terms.undelivered_days + terms.return_window_days)
    promised = terms.individual_paid_after_days
    pay_by = None if promised is None else paid_at + timedelta(days=promised)
    rates = [
        ("promoter brand", PayeeKind.BUSINESS, terms.promoter_brand_ppm, 1),
        ("individual", PayeeKind.INDIVIDUAL, terms.individual_ppm, terms.individuals),
        ("platform", PayeeKind.PLATFORM, terms.platform_ppm, 1),
        ("supplier", PayeeKind.BUSINESS, terms.suppliers_ppm, terms.suppliers),
    ]
    shares = [
        Share(
            name if count == 1 else f"{name} {number}",
            kind,
            amount,
            returns_until,
            pay_by if kind is PayeeKind.INDIVIDUAL else None,
        )
        for name, kind, rate, count in rates
        if rate
        for number, amount in enumerate(allocate_minor(whole * rate // PPM, [1] * count), 1)
    ]
    merchants = tuple(f"merchant {number}" for number in range(1, terms.merchants_per_payment + 1))
    planned = plan_split(Sale(merchants, terms.currency, whole, paid_at, returns_until, shares), rail)
    return planned.reasons if isinstance(planned, Unpayable) else ()


def _payees(sale: Sale, rail: Capabilities) -> list[Share]:
    """One share per payee, at the moment the rail may be told to pay it, earliest first.

    Where the platform holds the money it keeps its own share, and the merchant is paid like the others.
    """
    shares = [share for share in sale.shares if share.amount_minor]
    if rail.pools_funds:
        shares = [share for share in shares if share.kind is not PayeeKind.PLATFORM]
        rest = sale.paid_minor - sale.fee_minor - sale.outward_minor
        if rest > 0 and len(sale.merchant_ids) == 1:
            shares.append(Share(sale.merchant_ids[0], PayeeKind.MERCHANT, rest, sale.returns_until))
    together: dict[str, list[Share]] = {}
    for share in shares:
        together.setdefault(share.payee_id, []).append(share)
    payees = [_together(each, sale, rail) for each in together.values()]
    return sorted(payees, key=lambda share: (share.due_at, share.payee_id))


def _together(shares: Sequence[Share], sale: Sale, rail: Capabilities) -> Share:
    first = shares[0]
    due_at = max(_payable_at(share, sale, rail) for share in shares)
    promised = [share.pay_by for share in shares if share.pay_by is not None]
    amount = sum(share.amount_minor for share in shares)
    return Share(first.payee_id, first.kind, amount, due_at, min(promised, default=None))


def _payable_at(share: Share, sale: Sale, rail: Capabilities) -> datetime:
    if not _claws_back(share.kind, rail):
        return max(share.due_at, sale.returns_until)
    if rail.clawback_days is None:
        return share.due_at
    return max(share.due_at, sale.returns_until - timedelta(days=rail.clawback_days))


def _claws_back(kind: PayeeKind, rail: Capabilities) -> bool:
    if kind is PayeeKind.INDIVIDUAL:
        return rail.claws_back_from_individuals
    return rail.claws_back_from_businesses or kind is PayeeKind.PLATFORM


def _amounts(sale: Sale, rail: Capabilities) -> Iterator[Obstacle]:
    outward, shareable = sale.outward_minor, sale.paid_minor - sale.fee_minor
    if rail.currencies is not None and sale.currency not in rail.currencies:
        yield CurrencyNotCarried(sale.currency, tuple(sorted(rail.currencies)))
    if not rail.pools_funds and len(sale.merchant_ids) > 1:
        yield PoolingForbidden(len(sale.merchant_ids))
    if rail.max_outward_ppm is not None:
        allowed = sale.paid_minor * rail.max_outward_ppm // PPM
        if outward > allowed:
            yield CapExceeded(sale.paid_minor, outward, allowed)
    if outward > shareable:
        yield MerchantShort(outward, shareable)


def _dates(sale: Sale, payees: Sequence[Share], rail: Capabilities) -> Iterator[Obstacle]:
    send_before = _send_before(sale, rail)
    for share in payees:
        if share.pay_by is not None and share.pay_by < share.due_at:
            if share.pay_by < sale.returns_until and not _claws_back(share.kind, rail):
                individual = share.kind is PayeeKind.INDIVIDUAL
                yield ClawbackNeeded(
                    share.payee_id, individual, share.amount_minor, share.pay_by, sale.returns_until
                )
            else:
                yield PromisedTooEarly(share.payee_id, share.pay_by, share.due_at)
        if send_before is not None and share.due_at >= send_before:
            yield FreezeEndsFirst(share.payee_id, share.due_at, send_before)


def _counts(payees: Sequence[Share], rail: Capabilities) -> Iterator[Obstacle]:
    if rail.max_receivers is None or rail.max_requests is None:
        return
    limit = rail.max_receivers * _usable_requests(rail.max_requests)
    if len(payees) > limit:
        yield TooManyReceivers(len(payees), limit)


def _send_before(sale: Sale, rail: Capabilities) -> datetime | None:
    if rail.freeze_days is None:
        return None
    return sale.paid_at + timedelta(days=rail.freeze_days) - MARGIN


def _usable_requests(most: int) -> int:
    """Requests a plan may use: the other half is for the last one and for receivers to be tried again."""
    return max(most // 2, 1)


def _grouped(payees: Sequence[Share], rail: Capabilities) -> list[list[Share]]:
    """Payees of one moment together, no more at once than the rail takes.

    Where that would be more requests than it takes, everybody waits for the last payee.
    """
    most = rail.max_receivers or max(len(payees), 1)
    groups = [list(group) for _, group in groupby(payees, key=lambda share: share.due_at)]
    cut = [group[n : n + most] for group in groups for n in range(0, len(group), most)]
    if rail.max_requests is None or len(cut) <= _usable_requests(rail.max_requests):
        return cut
    last = payees[-1].due_at
    waiting = [Share(each.payee_id, each.kind, each.amount_minor, last, each.pay_by) for each in payees]
    return [waiting[n : n + most] for n in range(0, len(waiting), most)]


def _instruction(share: Share) -> Instruction:
    return Instruction(share.payee_id, share.kind, share.amount_minor)


def _finish(sale: Sale, requests: Sequence[Request], send_before: datetime | None) -> Request:
    """After the last shares and after returns, but before the freeze ends by itself."""
    last = max((request.send_at for request in requests), default=sale.paid_at)
    at = max(last + FINISH_AFTER, sale.returns_until)
    if send_before is not None:
        at = max(min(at, send_before), last)
    return Request(len(requests) + 1, at, send_before, (), finish=True)
