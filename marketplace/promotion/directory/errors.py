from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class BadPartnerProfile(Invalid):
    """A part of a profile that cannot be published; ``field`` says which."""

    code = "BAD_PARTNER_PROFILE"


class PartnerNotFound(NotFound):
    """No such brand, or it does not want to be found."""

    code = "PARTNER_NOT_FOUND"


class PartnerProfileChanged(Conflict):
    """Somebody of the same brand published in between."""

    code = "PARTNER_PROFILE_CHANGED"

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"version {expected} was expected, the latest is {current}")
        self.expected, self.current = expected, current
