from __future__ import annotations

from core.errors import Invalid, NotFound


class CommunityNotFound(NotFound):
    code = "COMMUNITY_NOT_FOUND"


class PlacementNotFound(NotFound):
    code = "PLACEMENT_NOT_FOUND"


class ContactNotFound(NotFound):
    code = "CONTACT_NOT_FOUND"


class MalformedIdentifier(Invalid):
    code = "MALFORMED_IDENTIFIER"

    def __init__(self, kind: str, why: str) -> None:
        # The value itself is personal and stays out of messages and logs.
        super().__init__(f"this {kind} cannot be one: {why}", field="identifiers")
        self.kind = kind


class NoIdentifier(Invalid):
    code = "NO_IDENTIFIER"


class IdentifiersDisagree(Invalid):
    """Two identifiers of one row already belong to two different people."""

    code = "IDENTIFIERS_DISAGREE"


class BatchTooLarge(Invalid):
    code = "BATCH_TOO_LARGE"

    def __init__(self, limit: int, got: int) -> None:
        super().__init__(f"{got} rows in one batch; {limit} are allowed")
        self.limit, self.got = limit, got


class BadAudienceField(Invalid):
    """A name, tag, size, locale or region that cannot be one; ``field`` says which."""

    code = "BAD_AUDIENCE_FIELD"
