"""What a sale earns, exactly: rules R1 to R8 of the CPS contract, pure and in integers.

Every amount here is an ``int`` in minor units of one currency that the caller carries (an order has one);
rates are integer ppm. Nothing is rounded twice: exact values are kept as numerators over 10⁶ until the one
rounding of the order, so the arithmetic equals that of fractions and needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from math import gcd
from typing import NamedTuple, Protocol

from core.money import PPM, allocate_minor, half_up_ratio
from supply.settlement.composition import commission_back

FIXED_CAP_PPM = 300_000
"""A fixed commission never exceeds 30 % of the basis unless the offer says otherwise."""

Shares = tuple[int, int, int]
"""Minor units for (individual promoter, promoter brand, platform): the fixed payee order of R3."""

_HALF = PPM // 2
_PPM_SQUARED = PPM * PPM


class Funder(StrEnum):
    """Who pays for a discount; decides whether it lowers the basis."""

    MERCHANT = "merchant"
    SUPPLIER = "supplier"
    PLATFORM = "platform"
    PROMOTER = "promoter"


_LOWERS_BASIS = frozenset({Funder.MERCHANT, Funder.SUPPLIER})


class CapMode(StrEnum):
    TRUNCATE = "TRUNCATE"
    ALL_OR_NOTHING = "ALL_OR_NOTHING"
    FALLBACK_RATE = "FALLBACK_RATE"


class TierMode(StrEnum):
    MARGINAL = "MARGINAL"
    WHOLE_ORDER = "WHOLE_ORDER"
    RETROACTIVE = "RETROACTIVE"


class Priced(Protocol):
    """One order line: ``gross_minor`` for the whole quantity, its own discount, the rate of tax inside it."""

    @property
    def gross_minor(self) -> int: ...
    @property
    def discount_minor(self) -> int: ...
    @property
    def tax_ppm(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LineAmounts:
    """A ``Priced`` line and nothing else."""

    gross_minor: int
    discount_minor: int = 0
    tax_ppm: int = 0


@dataclass(frozen=True, slots=True)
class OrderDiscount:
    amount_minor: int
    funder: Funder


class OrderCommission(NamedTuple):
    """What one agreement earns from one order: of each line its commission and how it divides."""

    total_minor: int
    commissions: list[int]
    shares: list[Shares]


@dataclass(frozen=True, slots=True)
class Cap:
    """``remaining_minor`` is what the cap (order, promoter and period, or campaign) still allows."""

    remaining_minor: int
    mode: CapMode = CapMode.TRUNCATE
    fallback_rate_ppm: int = 0


@dataclass(frozen=True, slots=True)
class CappedCommission:
    lines: tuple[int, ...]
    remaining_minor: tuple[int, ...]
    """Of each cap, in the sequence given, after this order."""


@dataclass(frozen=True, slots=True)
class Tier:
    """``rate_ppm`` holds from a counter of ``from_basis_minor`` on, inclusive."""

    from_basis_minor: int
    rate_ppm: int


@dataclass(frozen=True, slots=True)
class TieredCommission:
    commission_minor: int
    adjustment_minor: int = 0
    """RETROACTIVE only: owed once for the period's earlier orders, at the crossing."""


@dataclass(frozen=True, slots=True)
class PeriodBalance:
    paid_minor: int
    carry_minor: int
    """Goes into the next period; negative when the payee owes."""


def basis_of_lines(lines: Sequence[Priced], discounts: Sequence[OrderDiscount] = ()) -> list[int]:
    """R1, per line: gross − own discount − its part of order discounts funded by merchant or supplier − tax.

    The discounts are summed, then spread by largest remainder over gross − own discount; included tax is
    taken out of what is left. Never below 0. Shipping, duty and tips are not in ``gross_minor``.
    """
    nets = []
    for line in lines:
        net = line.gross_minor - line.discount_minor
        nets.append(net if net > 0 else 0)
    lowering = 0
    for discount in discounts:
        if discount.funder in _LOWERS_BASIS:
            lowering += discount.amount_minor
    if lowering:
        for index, part in enumerate(allocate_minor(min(lowering, sum(nets)), nets)):
            nets[index] -= part
    for index, line in enumerate(lines):
        if line.tax_ppm:
            nets[index] -= included_tax(nets[index], line.tax_ppm)
    return nets


def included_tax(amount_minor: int, tax_ppm: int) -> int:
    """The tax inside a tax-inclusive amount: ``half_up(g·t / (10⁶ + t))``."""
    return half_up_ratio(amount_minor * tax_ppm, PPM + tax_ppm)


def exact_fixed(amount_minor: int, *, quantity: int, basis_minor: int, cap_ppm: int = FIXED_CAP_PPM) -> int:
    """R2: the exact commission of one line at an amount per unit, capped, in millionths of a minor unit."""
    return min(amount_minor * quantity * PPM, basis_minor * cap_ppm)


def fixed_commission(
    amount_minor: int, *, quantity: int, basis_minor: int, cap_ppm: int = FIXED_CAP_PPM
) -> int:
    """R2 for an order of this one line: minor units."""
    exact = exact_fixed(amount_minor, quantity=quantity, basis_minor=basis_minor, cap_ppm=cap_ppm)
    return half_up_ratio(exact, PPM)


def round_to_lines(exact: Sequence[int]) -> list[int]:
    """R2: round Σ ``exact`` (millionths, ≥ 0) once, half up, and bring it back to the lines.

    Largest remainder on the exact values, ties to the earlier line; the result sums to the rounded total.
    """
    whole, over, left = [], [], (sum(exact) + _HALF) // PPM
    for value in exact:
        units = value // PPM
        whole.append(units)
        over.append(value - units * PPM)
        left -= units
    while left:
        most = over.index(max(over))
        over[most] = -1
        whole[most] += 1
        left -= 1
    return whole


def split_commission(commission_minor: int, *, fee_ppm: int, individual_ppm: int) -> Shares:
    """R3: one line to [individual promoter, promoter brand, platform].

    Weights ``(1−f)·k``, ``(1−f)·(1−k)``, ``f`` by largest remainder in that order. ``individual_ppm`` is 0
    where a sale has no individual promoter.
    """
    return split_commissions([commission_minor], fee_ppm=fee_ppm, individual_ppm=individual_ppm)[0]


def split_commissions(commissions_minor: Sequence[int], *, fee_ppm: int, individual_ppm: int) -> list[Shares]:
    """``split_commission`` of each."""
    kept = PPM - fee_ppm
    if individual_ppm == 0:
        # Two payees: half_up of one side is the largest remainder of both, a tie going to the earlier.
        return [
            (0, brand := (commission * kept + _HALF) // PPM, commission - brand)
            for commission in commissions_minor
        ]
    # allocate_minor over three weights, unrolled: it runs for every line of every order.
    of_individual, of_brand, of_platform, whole = _weights(fee_ppm, individual_ppm)
    split = []
    for commission in commissions_minor:
        individual, over_i = divmod(commission * of_individual, whole)
        brand, over_b = divmod(commission * of_brand, whole)
        platform, over_p = divmod(commission * of_platform, whole)
        left = commission - individual - brand - platform
        if left == 1:
            if over_i >= over_b and over_i >= over_p:
                individual += 1
            elif over_b >= over_p:
                brand += 1
            else:
                platform += 1
        elif left:
            # Two units over: the payee with the smallest remainder, the later of equals, goes without.
            if over_p <= over_i and over_p <= over_b:
                individual, brand = individual + 1, brand + 1
            elif over_b <= over_i:
                individual, platform = individual + 1, platform + 1
            else:
                brand, platform = brand + 1, platform + 1
        split.append((individual, brand, platform))
    return split


@lru_cache(maxsize=1024)
def _weights(fee_ppm: int, individual_ppm: int) -> tuple[int, int, int, int]:
    """``(1−f)·k, (1−f)·(1−k), f`` over their sum in lowest terms: small numbers divide faster, to the same result."""
    kept = PPM - fee_ppm
    weights = (kept * individual_ppm, kept * (PPM - individual_ppm), fee_ppm * PPM, _PPM_SQUARED)
    by = gcd(*weights)
    individual, brand, platform, whole = [weight // by for weight in weights]
    return individual, brand, platform, whole


def commission_of_order(
    bases: Sequence[int], rates_ppm: Sequence[int], *, fee_ppm: int, individual_ppm: int
) -> OrderCommission:
    """R2 and R3 for the lines of one (order, agreement); no cap, no tier, no fixed amount."""
    commissions = round_to_lines([basis * rate for basis, rate in zip(bases, rates_ppm, strict=True)])
    shares = split_commissions(commissions, fee_ppm=fee_ppm, individual_ppm=individual_ppm)
    return OrderCommission(sum(commissions), commissions, shares)


def apply_cap(lines: Sequence[int], cap: Cap, *, bases: Sequence[int] = ()) -> list[int]:
    """R4, before the split: the line commissions that one cap lets through.

    ``TRUNCATE`` spreads what is left over the lines by largest remainder, ``ALL_OR_NOTHING`` gives nothing,
    ``FALLBACK_RATE`` computes the order again at the fallback rate (from ``bases``) and truncates that.
    """
    allowed = max(cap.remaining_minor, 0)
    if sum(lines) <= allowed:
        return list(lines)
    if cap.mode is CapMode.ALL_OR_NOTHING:
        return [0] * len(lines)
    if cap.mode is CapMode.FALLBACK_RATE:
        if len(bases) != len(lines):
            raise ValueError("FALLBACK_RATE needs the basis of every line")
        fallback = round_to_lines([basis * cap.fallback_rate_ppm for basis in bases])
        # A fallback above the original rate is a mistake in the offer; the cap may only lower.
        lines = fallback if sum(fallback) < sum(lines) else lines
        if sum(lines) <= allowed:
            return list(lines)
    return allocate_minor(allowed, lines)


def apply_caps(lines: Sequence[int], caps: Sequence[Cap], *, bases: Sequence[int] = ()) -> CappedCommission:
    """R4 for all caps of a sale, in sequence: order, promoter and period, campaign."""
    kept = list(lines)
    for cap in caps:
        kept = apply_cap(kept, cap, bases=bases)
    total = sum(kept)
    return CappedCommission(tuple(kept), tuple([cap.remaining_minor - total for cap in caps]))


def tier_commission(
    *,
    prior_basis_minor: int,
    basis_minor: int,
    tiers: Sequence[Tier],
    mode: TierMode,
    peak_basis_minor: int = 0,
) -> TieredCommission:
    """R5: one order's commission when the promoter brand's counter stands at ``prior_basis_minor``.

    ``tiers`` ascend by ``from_basis_minor`` and start at 0, else ``ValueError``. ``MARGINAL`` pays each slice
    its own rate; the other two pay the whole order the rate the counter has reached with it. ``peak_basis_minor`` is
    the highest the counter has stood at, where refunds have lowered it since: reaching a tier again owes nothing.
    """
    _require_tiers(tiers)
    counter = prior_basis_minor + basis_minor
    if mode is TierMode.MARGINAL:
        exact = _marginal_exact(counter, tiers) - _marginal_exact(prior_basis_minor, tiers)
        return TieredCommission(half_up_ratio(exact, PPM))
    reached = _rate_at(counter, tiers)
    commission = half_up_ratio(basis_minor * reached, PPM)
    if mode is TierMode.WHOLE_ORDER:
        return TieredCommission(commission)
    stood = max(prior_basis_minor, peak_basis_minor)
    raised = reached - _rate_at(stood, tiers) if counter > stood else 0
    return TieredCommission(commission, half_up_ratio(prior_basis_minor * raised, PPM))


def tier_commission_of_lines(
    *,
    prior_basis_minor: int,
    bases: Sequence[int],
    tiers: Sequence[Tier],
    mode: TierMode,
    peak_basis_minor: int = 0,
) -> tuple[list[int], int]:
    """R5 brought back to the lines in proportion to their basis: every line of an order has one blended rate.

    Returns (line commissions, adjustment).
    """
    tiered = tier_commission(
        prior_basis_minor=prior_basis_minor,
        basis_minor=sum(bases),
        tiers=tiers,
        mode=mode,
        peak_basis_minor=peak_basis_minor,
    )
    return allocate_minor(tiered.commission_minor, bases), tiered.adjustment_minor


def _require_tiers(tiers: Sequence[Tier]) -> None:
    starts = [tier.from_basis_minor for tier in tiers]
    if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
        raise ValueError("tiers start at 0 and ascend")


def _marginal_exact(counter: int, tiers: Sequence[Tier]) -> int:
    exact = 0
    for index, tier in enumerate(tiers):
        end = tiers[index + 1].from_basis_minor if index + 1 < len(tiers) else counter
        exact += max(min(counter, end) - tier.from_basis_minor, 0) * tier.rate_ppm
    return exact


def _rate_at(counter: int, tiers: Sequence[Tier]) -> int:
    return next(tier.rate_ppm for tier in reversed(tiers) if tier.from_basis_minor <= counter)


def reverse_line(
    *, commission_minor: int, basis_minor: int, refunded_basis_minor: int, held: Sequence[int]
) -> list[int]:
    """R6, as refunds settle it: what each payee gives back when ``refunded_basis_minor`` of the line, this refund
    counted, is back.

    ``commission_minor`` and ``basis_minor`` are the line's original figures, ``held`` what each payee still
    holds of it; what was reversed before is the difference. Over any sequence of refunds no share rises or
    falls below zero and the full refund takes back everything. Raises ``ValueError`` for a refund beyond the
    basis or for more held than was earned.
    """
    if not 0 <= refunded_basis_minor <= basis_minor:
        raise ValueError(f"{refunded_basis_minor} refunded of a basis of {basis_minor}")
    if sum(held) > commission_minor:
        raise ValueError(f"{sum(held)} held of a commission of {commission_minor}")
    if basis_minor == 0:
        return [0] * len(held)
    return commission_back(commission_minor, basis_minor, refunded_basis_minor, held)


def settle_period(
    *, carry_in_minor: int, earned_minor: int, clawed_back_minor: int, minimum_payout_minor: int
) -> PeriodBalance:
    """R8 for one payee and currency: a net that reaches the minimum is paid, any other is carried."""
    net = carry_in_minor + earned_minor - clawed_back_minor
    if net > 0 and net >= minimum_payout_minor:
        return PeriodBalance(net, 0)
    return PeriodBalance(0, net)
