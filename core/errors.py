"""What can go wrong, in the caller's terms.

One class per situation; ``code`` is stable and part of the API. The family tells every surface how to
answer: GraphQL puts expected ones into ``userErrors``, REST into an RFC 9457 problem with ``status``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class LianyuError(Exception):
    """Base of every expected error. Facts a caller can use are public attributes of the subclass."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message, self.field = message, field

    def facts(self) -> dict[str, Any]:
        """The attributes a caller can act on, without the message."""
        return {k: v for k, v in vars(self).items() if k not in {"message", "field"} and v is not None}


class Invalid(LianyuError):
    """The request can never succeed as it is."""

    code = "INVALID"
    status = 422


class Unauthenticated(LianyuError):
    code = "UNAUTHENTICATED"
    status = 401


class Forbidden(LianyuError):
    code = "FORBIDDEN"
    status = 403


class NotFound(LianyuError):
    """Absent, or not visible to this actor: the two are not told apart."""

    code = "NOT_FOUND"
    status = 404


class Conflict(LianyuError):
    """True a moment ago or in another state; the caller can look again and retry."""

    code = "CONFLICT"
    status = 409


class RateLimited(LianyuError):
    code = "RATE_LIMITED"
    status = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(LianyuError):
    """A machine or vendor we depend on does not answer; nothing was changed."""

    code = "UNAVAILABLE"
    status = 503


class Problems(LianyuError):
    """Several expected errors at once; a surface answers each by itself."""

    code = "PROBLEMS"
    status = 409

    def __init__(self, problems: Sequence[LianyuError]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)
