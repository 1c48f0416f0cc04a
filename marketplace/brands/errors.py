from __future__ import annotations

from collections.abc import Iterable

from core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated


class InvalidToken(Unauthenticated):
    """Unknown, malformed, or of a tenant that is closed: the three are not told apart."""

    code = "INVALID_TOKEN"


class ExpiredToken(Unauthenticated):
    code = "EXPIRED_TOKEN"


class RevokedToken(Unauthenticated):
    code = "REVOKED_TOKEN"


class InvalidPublishableKey(Unauthenticated):
    code = "INVALID_PUBLISHABLE_KEY"


class EmailTaken(Conflict):
    code = "EMAIL_TAKEN"


class InvalidEmail(Invalid):
    code = "INVALID_EMAIL"


class InvalidName(Invalid):
    code = "INVALID_NAME"


class InvalidText(Invalid):
    code = "INVALID_TEXT"


class InvalidCountry(Invalid):
    code = "INVALID_COUNTRY"


class InvalidLocale(Invalid):
    code = "INVALID_LOCALE"


class ExpiryInThePast(Invalid):
    code = "EXPIRY_IN_THE_PAST"


class TokenNotFound(NotFound):
    code = "TOKEN_NOT_FOUND"


class TokenAlreadyRevoked(Conflict):
    code = "TOKEN_ALREADY_REVOKED"


class StorefrontNotFound(NotFound):
    code = "STOREFRONT_NOT_FOUND"


class BrandNotFound(NotFound):
    code = "BRAND_NOT_FOUND"


class UnknownScope(Invalid):
    code = "UNKNOWN_SCOPE"

    def __init__(self, scopes: Iterable[str]) -> None:
        self.scopes = sorted(scopes)
        super().__init__(f"no such scope for this tenant: {', '.join(self.scopes)[:200]}", field="scopes")


class ScopeNotHeld(Forbidden):
    code = "SCOPE_NOT_HELD"

    def __init__(self, scopes: Iterable[str]) -> None:
        self.scopes = sorted(scopes)
        super().__init__(f"you cannot grant what you do not hold: {', '.join(self.scopes)}", field="scopes")
