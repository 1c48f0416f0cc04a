"""Exact money: integer minor units, one currency, rates in integer ppm. No floats anywhere.

Rules: ``half_up`` and ``allocate`` (largest remainder) as in docs/decisions/0003-money.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from core.errors import Invalid

PPM = 1_000_000
"""Parts per million: a rate of 10 % is 100_000."""

MAX_MINOR = 10**15
"""Largest amount accepted from outside, far below BIGINT so that sums cannot overflow."""

_DECIMAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_MAX_DIGITS = len(str(MAX_MINOR))

# ISO 4217, minor-unit digits of the currencies the platform trades in.
EXPONENTS: dict[str, int] = {
    "AED": 2, "AUD": 2, "BHD": 3, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "EUR": 2, "GBP": 2, "HKD": 2,
    "IDR": 2, "INR": 2, "JPY": 0, "KRW": 0, "KWD": 3, "MOP": 2, "MXN": 2, "MYR": 2, "NZD": 2, "OMR": 3,
    "PHP": 2, "SGD": 2, "THB": 2, "TWD": 2, "USD": 2, "VND": 0,
}  # fmt: skip


class UnknownCurrency(Invalid):
    code = "UNKNOWN_CURRENCY"

    def __init__(self, currency: str) -> None:
        super().__init__(f"{currency[:16]!r} is not a currency this platform trades in")
        self.currency = currency[:16]


class CurrencyMismatch(Invalid):
    code = "CURRENCY_MISMATCH"

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, got


class MalformedAmount(Invalid):
    code = "MALFORMED_AMOUNT"


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """``amount_minor`` in the currency's smallest unit (fen, cent, yen, fils); may be negative."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in EXPONENTS:
            raise UnknownCurrency(self.currency)

    @classmethod
    def parse(cls, amount: str, currency: str) -> Money:
        """From a decimal string. Raises ``MalformedAmount`` for more digits than the currency has."""
        if currency not in EXPONENTS:
            raise UnknownCurrency(currency)
        # Digits only: Decimal would round beyond its precision and unfold "1e999999" into a million digits.
        match = _DECIMAL.fullmatch(amount)
        if match is None:
            raise MalformedAmount(f"{amount[:32]!r} is not an amount")
        sign, whole, fraction = match[1], match[2].lstrip("0"), (match[3] or "").rstrip("0")
        digits = EXPONENTS[currency]
        if len(fraction) > digits:
            raise MalformedAmount(f"{currency} has {digits} decimals, {amount[:32]!r} has more")
        if len(whole) > _MAX_DIGITS or (minor := int(whole + fraction.ljust(digits, "0") or "0")) > MAX_MINOR:
            raise MalformedAmount(f"{amount[:32]!r} is beyond the largest amount")
        return cls(-minor if sign else minor, currency)

    @property
    def decimal(self) -> str:
        """The amount as a decimal string with all the currency's digits, e.g. ``"10.00"``."""
        digits = EXPONENTS[self.currency]
        sign, text = ("-" if self.amount_minor < 0 else ""), str(abs(self.amount_minor)).zfill(digits + 1)
        return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"

    def __str__(self) -> str:
        return f"{self.decimal} {self.currency}"

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def __mul__(self, quantity: int) -> Money:
        return Money(self.amount_minor * quantity, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount_minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.amount_minor <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount_minor > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount_minor >= self._same(other)

    def __bool__(self) -> bool:
        return self.amount_minor != 0

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.amount_minor


def half_up(value: Fraction | int) -> int:
    """Nearest integer, ties away from zero."""
    return half_up_ratio(value.numerator, value.denominator)


def half_up_ratio(numerator: int, denominator: int) -> int:
    """``half_up(numerator / denominator)`` in integers only; ``denominator`` > 0."""
    if numerator < 0:
        return -((-2 * numerator + denominator) // (2 * denominator))
    return (2 * numerator + denominator) // (2 * denominator)


def rate_of(amount_minor: int, rate_ppm: int) -> int:
    """``half_up(amount × rate)`` for one amount that is rounded by itself (a fee, a tax)."""
    return half_up_ratio(amount_minor * rate_ppm, PPM)


def largest_remainder(total: int, exact: Sequence[Fraction]) -> list[int]:
    """Floor every exact share, then give what is left to the largest fractions, earlier index first.

    ``exact`` are non-negative and sum to within one unit per share of ``total``; the result sums to it.
    Raises ``ValueError`` when the shares cannot be made to sum to ``total`` in that way.
    """
    floors = [share.numerator // share.denominator for share in exact]
    left = total - sum(floors)
    if not 0 <= left <= len(floors):
        raise ValueError(f"shares sum to {sum(exact)}, cannot round them to {total}")
    by_fraction = sorted(range(len(floors)), key=lambda i: (floors[i] - exact[i], i))
    for i in by_fraction[:left]:
        floors[i] += 1
    return floors


def allocate_minor(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` ≥ 0 in proportion to ``weights`` ≥ 0; exact, ties to the earlier index.

    With all weights zero, ``total`` must be zero. Raises ``ValueError`` otherwise.
    """
    if total < 0 or (weights and min(weights) < 0):
        raise ValueError("allocate takes a non-negative total and non-negative weights")
    whole = sum(weights)
    if whole == 0:
        if total:
            raise ValueError(f"nothing to allocate {total} over")
        return [0] * len(weights)
    # Integer form of the remainders: (total·w) mod whole orders exactly as the fractions do.
    shares, over, left = [], [], total
    for weight in weights:
        exact = total * weight
        share = exact // whole
        shares.append(share)
        over.append(exact - share * whole)
        left -= share
    if left == 1:
        shares[over.index(max(over))] += 1
    elif left:
        for i in sorted(range(len(over)), key=over.__getitem__, reverse=True)[:left]:
            shares[i] += 1
    return shares


def allocate(total: Money, weights: Sequence[int]) -> list[Money]:
    """``allocate_minor`` for money: the parts sum to ``total`` to the last unit."""
    return [Money(share, total.currency) for share in allocate_minor(total.amount_minor, weights)]


def allocate_remaining(amount: int, remaining: Sequence[int]) -> list[int]:
    """Take ``amount`` from what each payee still holds, in proportion to it.

    ``0 ≤ share ≤ remaining`` for each, Σ shares = ``amount``, and taking the rest empties all, whatever came
    before. Raises ``ValueError`` when ``amount`` is more than is left.
    """
    if amount > sum(remaining):
        raise ValueError(f"{amount} is more than the {sum(remaining)} left")
    return allocate_minor(amount, remaining)


def cumulative_part(part: int, refunded: int, whole: int) -> int:
    """What has been taken of ``part`` once ``refunded`` of ``whole`` went back.

    ``half_up(part · refunded / whole)``.
    The difference between two calls is one slice; the last slice empties ``part`` exactly.
    """
    if whole == 0:
        return part if refunded >= whole else 0
    return half_up_ratio(part * refunded, whole)
