"""What a document may cost before it is run, the caches that make a known document cheap, and masking."""

from __future__ import annotations

from typing import Any

import structlog
from graphql import GraphQLError
from strawberry.extensions import (
    AddValidationRules,
    MaskErrors,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    SchemaExtension,
    ValidationCache,
)

from core.errors import LianyuError
from infra.observability.context import request_id

MAX_DEPTH = 12
MAX_ALIASES = 30
MAX_TOKENS = 4_000
DOCUMENTS = 1_000
_RULES = [
    *QueryDepthLimiter(max_depth=MAX_DEPTH).validation_rules,
    *MaxAliasesLimiter(max_alias_count=MAX_ALIASES).validation_rules,
]
"""Made once: both make new classes each time, and the cache of validated documents tells rules apart by class."""
_HIDDEN = "an unexpected error; quote the request id"

log = structlog.get_logger("graph")


def _is_unexpected(error: GraphQLError) -> bool:
    """Syntax, validation and expected errors are the caller's to see; the rest is masked and logged."""
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        return False
    if isinstance(original, LianyuError):
        error.extensions = {**(error.extensions or {}), "code": original.code}
        return False
    return True


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
        lambda: AddValidationRules(_RULES),
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        lambda: ParserCache(maxsize=DOCUMENTS),
        lambda: ValidationCache(maxsize=DOCUMENTS),
        Masking,
    ]


__all__ = ["SchemaExtension", "extensions"]
