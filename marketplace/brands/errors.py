from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound, Unauthenticated


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
