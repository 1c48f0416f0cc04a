"""What the rail costs and how small a payment may be."""

from __future__ import annotations

from fractions import Fraction

from core.money import EXPONENTS, PPM, half_up
from services.paysim.config import Fees
from services.paysim.wire import ApiError

# The smallest charge by settlement currency, minor units, as Stripe publishes them.
MINIMUM_CHARGE = {
    "usd": 50, "eur": 50, "gbp": 30, "jpy": 50, "aud": 50, "cad": 50, "chf": 50, "nzd": 50, "sgd": 50,
    "hkd": 400, "brl": 50, "inr": 50, "mxn": 1_000, "dkk": 250, "nok": 300, "sek": 300, "pln": 200,
    "czk": 1_500, "huf": 17_500, "aed": 200, "myr": 200, "ron": 200, "thb": 1_000,
}  # fmt: skip
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "cny": "CN¥"}


def processing_fee(amount_minor: int, fees: Fees) -> int:
    """Rate and fixed part, rounded half up once, never more than the payment itself."""
    return min(amount_minor, half_up(Fraction(amount_minor * fees.rate_ppm, PPM) + fees.fixed_minor))


def shown(amount_minor: int, currency: str) -> str:
    """The amount as Stripe writes it in messages: ``$10.00``, ``¥500``."""
    digits = EXPONENTS.get(currency.upper(), 2)
    figure = str(abs(amount_minor)).zfill(digits + 1)
    decimal = f"{figure[:-digits]}.{figure[-digits:]}" if digits else figure
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{decimal}" if symbol else f"{decimal} {currency.upper()}"


def refuse_unchargeable(amount_minor: int, currency: str) -> None:
    """Too small for the rail, or a last digit its three-decimal currencies do not have."""
    if EXPONENTS.get(currency.upper(), 2) == 3 and amount_minor % 10:
        message = (
            f"Invalid amount: {currency.upper()} amounts end in 0, the last of three decimals is not charged."
        )
        raise ApiError(400, message, code="parameter_invalid_integer", param="amount")
    least = MINIMUM_CHARGE.get(currency, 1)
    if amount_minor < least:
        message = f"Amount must be at least {shown(least, currency)} {currency}"
        raise ApiError(400, message, code="amount_too_small", param="amount")
