"""Lists of rows: what is wrong with each, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import strawberry

from core.errors import LianyuError
from core.plain import camel, plain
from graph.errors import ErrorCode, UserError
from graph.scalars import JSON
from marketplace.catalog.models import ErrorPolicy
from marketplace.promotion.errors import BatchTooLarge, RowError, RowsRejected

T = TypeVar("T")
R = TypeVar("R")


@strawberry.type(description="One refused row; `row` counts from 1.")
class RefusedRow:
    row: int
    error: UserError

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> RefusedRow:
        field = stored["field"]
        error = UserError(
            code=ErrorCode(stored["code"]),
            message=stored["message"],
            field=field.split(".") if field else None,
            facts=JSON(stored["facts"]) if stored["facts"] else None,
        )
        return cls(row=stored["row"], error=error)


def stored(failed: RowError) -> dict[str, Any]:
    """A row error as it is kept with the answer, for whoever asks again."""
    error = UserError.of(failed.error)
    facts = {camel(k): plain(v) for k, v in failed.error.facts().items()}
    return {
        "row": failed.row, "code": error.code.value, "message": error.message, "field": failed.error.field,
        "facts": facts,
    }  # fmt: skip


def parsed(
    rows: Sequence[T], parse: Callable[[T], R], *, most: int, field: str
) -> tuple[dict[int, R], list[RowError]]:
    """By number, rows that can be read, and those that cannot. Raises ``BatchTooLarge``."""
    if not 1 <= len(rows) <= most:
        raise BatchTooLarge(most, len(rows), field=field)
    good, bad = {}, []
    for number, row in enumerate(rows, start=1):
        try:
            good[number] = parse(row)
        except LianyuError as error:
            bad.append(RowError(number, error))
    return good, bad


def all_or_none(policy: ErrorPolicy) -> bool:
    """A link or touch means nothing without any of its fields: IGNORE_FAILED is as REJECT_FAILED_ROWS here."""
    return policy is ErrorPolicy.REJECT_EVERYTHING


def rejected(errors: Sequence[object], policy: ErrorPolicy) -> list[UserError]:
    """That nothing was taken, when that is what was asked for."""
    return [UserError.of(RowsRejected(len(errors)))] if errors and all_or_none(policy) else []
