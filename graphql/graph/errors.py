"""Expected outcomes are data: ``userErrors`` of a payload, with a stable code and the facts to act on."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import strawberry
from sqlalchemy.exc import DBAPIError

import graph.domain_errors  # noqa: F401  (every error class is defined before its code is listed)
from core.errors import LianyuError, Problems, Unavailable
from core.plain import camel, plain
from graph.scalars import JSON
from infra.db.contention import TRY_AGAIN, lost_a_race

P = ParamSpec("P")
R = TypeVar("R")


def _codes(base: type[LianyuError]) -> set[str]:
    return {base.code}.union(*(_codes(sub) for sub in base.__subclasses__()))


_KNOWN = _codes(LianyuError)

if TYPE_CHECKING:
    ErrorCode = Enum
else:
    ErrorCode = strawberry.enum(
        Enum("ErrorCode", {code: code for code in sorted(_KNOWN)}),
        description="Stable codes: a release may add some, none changes its meaning.",
    )


@strawberry.type(description="What kept a mutation from happening, in terms the caller can act on.")
class UserError:
    code: ErrorCode
    message: str
    field: list[str] | None = strawberry.field(
        default=None, description="Where in the input, as a path; null when it is about the whole."
    )
    facts: JSON | None = strawberry.field(
        default=None, description="The numbers and ids behind the message, e.g. available, current price."
    )

    @classmethod
    def of(cls, error: LianyuError) -> UserError:
        return cls(
            code=ErrorCode(error.code if error.code in _KNOWN else LianyuError.code),
            message=error.message,
            field=error.field.split(".") if error.field else None,
            facts=JSON({camel(k): plain(v) for k, v in error.facts().items()}) or None,
        )


def expected(payload: Callable[..., R]) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Decorate a mutation's resolver: an expected error becomes ``payload(user_errors=[…])``.

    So does a transaction that lost a race for locks. Everything else is a bug: it goes up, is masked and logged once
    at the edge.
    """

    def decorate(resolve: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(resolve)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return await resolve(*args, **kwargs)
            except Problems as several:
                return payload(user_errors=[UserError.of(problem) for problem in several.problems])
            except LianyuError as error:
                return payload(user_errors=[UserError.of(error)])
            except DBAPIError as error:
                if not lost_a_race(error):
                    raise
                return payload(user_errors=[UserError.of(Unavailable(TRY_AGAIN))])

        return guarded

    return decorate
