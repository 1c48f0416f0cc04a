"""Stripe's metadata rule: named keys are set, empty values unset, an empty hash clears everything."""

from __future__ import annotations

from services.paysim.params import MAX_METADATA_KEYS
from services.paysim.wire import ApiError


def merged(old: dict[str, str], new: dict[str, str] | None) -> dict[str, str]:
    """Stripe's metadata rule: named keys are set, empty values unset, ``""`` clears everything."""
    if new is None:
        return old
    kept = _kept({**old, **new}) if new else {}
    if len(kept) > MAX_METADATA_KEYS:
        message = f"Metadata is limited to {MAX_METADATA_KEYS} keys; this object would have {len(kept)}"
        raise ApiError(400, message, param="metadata")
    return kept


def _kept(metadata: dict[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (metadata or {}).items() if value != ""}
