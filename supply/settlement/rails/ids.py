from __future__ import annotations

from core.ids import TypedId


class RailRequestId(TypedId):
    """One request to a sharing rail; its text is the request's number there."""

    prefix = "rrq"
