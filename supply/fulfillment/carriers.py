"""Carriers we can follow. A number may be used again by its carrier after half a year."""

from __future__ import annotations

from datetime import timedelta

from supply.fulfillment.errors import UnknownCarrier

CARRIERS = frozenset(
    {
        "sf_express", "zto", "yto", "sto", "yunda", "jt_express", "jd_logistics", "ems", "china_post", "deppon",
        "cainiao", "dhl", "ups", "fedex", "usps", "royal_mail", "dpd", "gls", "la_poste", "correios",
        "japan_post", "yamato", "sagawa", "sing_post", "ninja_van", "aramex", "canada_post", "australia_post",
        "own_fleet", "other",
    }
)  # fmt: skip
NUMBERS_REPEAT_AFTER = timedelta(days=180)


def checked_carrier(carrier: str) -> str:
    """Raises ``UnknownCarrier``, naming those that are known."""
    name = carrier.strip().lower().replace("-", "_").replace(" ", "_")
    if name not in CARRIERS:
        raise UnknownCarrier(carrier, CARRIERS)
    return name
