"""What a document may cost before it is run, the caches that make a known document cheap, and masking."""

from __future__ import annotations

from typing import Any

import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import (
    AddValidationRules,
    MaskErrors,
    MaxTokensLimiter,
    ParserCache,
    SchemaExtension,
    ValidationCache,
)
from strawberry.types import ExecutionContext

from core.errors import LianyuError, Unavailable
from graph.document_limits import MAX_ALIASES, DocumentLimits
from infra.db.contention import TRY_AGAIN, lost_a_race
from infra.db.text import was_unstorable
from infra.observability.context import request_id

MAX_TOKENS = 4_000
DOCUMENTS = 1_000
_TOO_LONG = "tokens. Parsing aborted"
UNSTORABLE = "text holds neither a NUL nor half of a surrogate pair"
_HIDDEN = "an unexpected error; quote the request id"

log = structlog.get_logger("graph")


def _is_unexpected(error: GraphQLError) -> bool:
    """Syntax, validation and expected errors are the caller's to see; the rest is masked and logged."""
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        error.extensions = {"code": "INVALID_DOCUMENT", **(error.extensions or {})}
        return False
    if error.path is None and isinstance(original, ValueError | TypeError):
        # Before any resolver ran: a variable's value that its scalar could not read.
        error.extensions = {**(error.extensions or {}), "code": "BAD_VARIABLE"}
        return False
    if was_unstorable(original):
        error.message, error.extensions = UNSTORABLE, {"code": "UNSTORABLE_TEXT"}
        return False
    if lost_a_race(original):
        error.message, error.extensions = TRY_AGAIN, {"code": Unavailable.code}
        return False
    if isinstance(original, LianyuError):
        error.extensions = {**(error.extensions or {}), "code": original.code}
        return False
    return True


class Schema(strawberry.Schema):
    """Errors are the caller's; what is ours is logged once, by ``Masking``.

    Strawberry would log each with the whole document, and whatever a client wrote into it.
    """

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        for error in errors:
            if isinstance(error, GraphQLSyntaxError):  # before masking has a result to look at
                too_long = _TOO_LONG in error.message
                error.extensions = {"code": "DOCUMENT_TOO_LONG" if too_long else "MALFORMED_DOCUMENT"}


class Masking(MaskErrors):
    """Unexpected errors are logged once, and answered with nothing but the request id."""

    def __init__(self) -> None:
        super().__init__(should_mask_error=_is_unexpected, error_message=_HIDDEN)

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        log.error("unexpected", path=error.path, exc_info=error.original_error)
        return GraphQLError(
            message=self.error_message,
            nodes=error.nodes,
            source=error.source,
            positions=error.positions,
            path=error.path,
            extensions={"code": LianyuError.code, "requestId": request_id()},
        )


def extensions() -> list[Any]:
    return [
        lambda: AddValidationRules([DocumentLimits]),
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        lambda: ParserCache(maxsize=DOCUMENTS),
        lambda: ValidationCache(maxsize=DOCUMENTS),
        Masking,
    ]


__all__ = ["MAX_ALIASES", "Schema", "SchemaExtension", "extensions"]
