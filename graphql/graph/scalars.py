"""The wire forms of values: money as strings (GraphQL's Int has 32 bits), time in UTC, rates in ppm."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NewType

import strawberry
from strawberry.schema.types.scalar import DEFAULT_SCALAR_REGISTRY

from core import money

MinorUnits = NewType("MinorUnits", int)
Ppm = NewType("Ppm", int)
JSON = NewType("JSON", object)

CURRENCIES = frozenset(money.EXPONENTS)


def _utc(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parse_time(value: str) -> datetime:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("a time needs an offset, e.g. 2026-03-01T00:00:00Z")
    return at.astimezone(UTC)


SCALARS = {
    **DEFAULT_SCALAR_REGISTRY,
    MinorUnits: strawberry.scalar(
        name="MinorUnits",
        description="An integer count of the currency's smallest unit, as a string.",
        serialize=str,
        parse_value=int,
    ),
    Ppm: strawberry.scalar(
        name="Ppm",
        description="A rate in parts per million: 100000 is 10 %.",
        serialize=int,
        parse_value=int,
    ),
    datetime: strawberry.scalar(
        name="DateTime", description="A time in UTC, ISO 8601.", serialize=_utc, parse_value=_parse_time
    ),
    JSON: strawberry.scalar(
        name="JSON", description="Any JSON value.", serialize=lambda v: v, parse_value=lambda v: v
    ),
}


@strawberry.type(description="An exact amount: a decimal string for people, minor units for sums.")
class Money:
    amount: str
    currency_code: str
    minor_units: MinorUnits

    @classmethod
    def of(cls, value: money.Money) -> Money:
        return cls(
            amount=value.decimal,
            currency_code=value.currency,
            minor_units=MinorUnits(value.amount_minor),
        )

    @classmethod
    def minor(cls, amount_minor: int, currency: str) -> Money:
        return cls.of(money.Money(amount_minor, currency))


@strawberry.input(description="An amount as a decimal string with at most the currency's decimals.")
class MoneyInput:
    amount: str
    currency_code: str

    def parsed(self) -> money.Money:
        """Raises ``MalformedAmount`` and ``UnknownCurrency``."""
        return money.Money.parse(self.amount, self.currency_code)
