"""R10: the customer pays in one currency and the provider keeps another.

Parties' accounts stay in the currency the customer paid. The two currencies of a movement meet in a position
(6000), one per presented currency: what came of it in its own currency against what it brought, or cost, in the
settlement currency. A position that is back at zero has nothing left to be worth anything, so what lies on its
other side is gain or loss (R10c).

The recipe of the specification is one journal; here a movement is first booked as it was presented, and turned
into what the provider settled when the provider's row says so. Both together are R10, leg for leg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import Conflict
from core.money import EXPONENTS, Money, half_up
from supply.ledger import queries
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, Leg, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account

# One writer of a position at a time, until its transaction ends: 6000 takes no lock of its own.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 6000))")
_SEEN = text(
    "INSERT INTO currency_rates (currency, settled_currency, rate, source, observed_at)"
    " VALUES (:currency, :settled, :rate, :source, :at) ON CONFLICT (currency, settled_currency) DO UPDATE"
    " SET rate = excluded.rate, source = excluded.source, observed_at = excluded.observed_at"
    " WHERE excluded.observed_at >= currency_rates.observed_at"
)
_RATE = text("SELECT rate FROM currency_rates WHERE currency = :currency AND settled_currency = :settled")


class RateUnknown(Conflict):
    """No rate between the two currencies was ever seen or set."""

    code = "RATE_UNKNOWN"

    def __init__(self, currency: str, settled_currency: str) -> None:
        super().__init__(f"no rate from {currency} to {settled_currency}")
        self.currency, self.settled_currency = currency, settled_currency


@dataclass(frozen=True, slots=True)
class Conversion:
    """``presented`` is what our books moved on the provider's account for the transaction, ``settled`` what the
    provider moved instead, before its fee. Both above zero for money that came, below for money that went."""

    transaction_id: str
    provider: str
    presented: Money
    settled: Money
    account: Code
    """1000 or 1010, where the books moved it."""
    at: datetime
    rate: str | None = None
    """Settlement units for one unit, as the provider's row says."""


def position(presented_currency: str, currency: str) -> AccountKey:
    """One side of the position held in ``presented_currency``."""
    return AccountKey(Code.CURRENCY_POSITION, f"fx:{presented_currency}", currency)


def conversion_legs(conversion: Conversion) -> tuple[Leg, ...]:
    """R10 less the posting in the presented currency, and R10b the same for money that goes."""
    presented, settled = conversion.presented, conversion.settled
    code, provider = conversion.account, conversion.provider
    return (
        debit(provider_account(code, provider, settled.currency), settled.amount_minor),
        credit(position(presented.currency, settled.currency), settled.amount_minor),
        debit(position(presented.currency, presented.currency), presented.amount_minor),
        credit(provider_account(code, provider, presented.currency), presented.amount_minor),
    )


def realisation_legs(presented_currency: str, held: Sequence[Money]) -> tuple[Leg, ...]:
    """R10c: what a position that is empty in its own currency still holds in others becomes 5040.

    ``held`` are debit balances; below zero it is a gain.
    """
    legs = []
    for side in held:
        legs.append(debit(platform_account(Code.CURRENCY_DIFFERENCE, side.currency), side.amount_minor))
        legs.append(credit(position(presented_currency, side.currency), side.amount_minor))
    return tuple(legs)


async def record_conversion(session: AsyncSession, conversion: Conversion, *, now: datetime) -> None:
    """R10 or R10b for one row of the provider, and R10c when it empties the position. Again: nothing."""
    presented = conversion.presented.currency
    await session.execute(_ONE_AT_A_TIME, {"name": f"fx:{presented}"})
    key, row = f"fx:{conversion.transaction_id}", conversion.transaction_id
    journal = Journal(key, Kind.CONVERSION, conversion_legs(conversion), conversion.at, None, row)
    await ledger.post(session, journal, now=now)
    await _realise(session, presented, row, conversion.at, now)
    if conversion.rate:
        settled = conversion.settled.currency
        await remember_rate(session, presented, settled, conversion.rate, source=row, at=conversion.at)


async def _realise(session: AsyncSession, presented: str, row: str, at: datetime, now: datetime) -> None:
    sides = {
        side.currency: side.balance_minor
        for side in await queries.balances_of(session, [f"fx:{presented}"])
        if side.balance_minor
    }
    if presented in sides or not sides:
        return
    legs = realisation_legs(
        presented, [Money(amount, currency) for currency, amount in sorted(sides.items())]
    )
    journal = Journal(f"fxreal:{row}", Kind.CONVERSION_REALISED, legs, at, None, row)
    await ledger.post(session, journal, now=now)


async def remember_rate(
    session: AsyncSession, currency: str, settled_currency: str, rate: str, *, source: str, at: datetime
) -> None:
    """Keep the newest rate: of the provider's rows, or set by an operator. ``rate`` is a decimal string."""
    values = {"currency": currency, "settled": settled_currency, "rate": rate, "source": source, "at": at}
    await session.execute(_SEEN, values)


async def cost_in(session: AsyncSession, amount: Money, settled_currency: str) -> Money:
    """What ``amount`` would cost at the newest rate, rounded half up. Raises ``RateUnknown``."""
    if amount.currency == settled_currency:
        return amount
    where = {"currency": amount.currency, "settled": settled_currency}
    rate = (await session.execute(_RATE, where)).scalar_one_or_none()
    if rate is None:
        raise RateUnknown(amount.currency, settled_currency)
    return converted(amount, settled_currency, rate)


def converted(amount: Money, settled_currency: str, rate: str) -> Money:
    """``rate`` is settlement units for one whole unit of ``amount``'s currency, as Stripe writes it."""
    digits = EXPONENTS[settled_currency] - EXPONENTS[amount.currency]
    return Money(half_up(amount.amount_minor * Fraction(rate) * Fraction(10) ** digits), settled_currency)
