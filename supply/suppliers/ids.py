"""Identifiers that never leave this module's tables."""

from __future__ import annotations

from core.ids import TypedId


class ZoneRateId(TypedId):
    prefix = "zrt"
