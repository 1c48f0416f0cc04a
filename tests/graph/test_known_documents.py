from __future__ import annotations

import pytest
import strawberry
from strawberry.extensions import ValidationCache

from graph.brand import schema as BRAND
from graph.limits import DOCUMENTS, MAX_ALIASES
from graph.storefront import schema as STOREFRONT


@pytest.mark.parametrize("schema", [BRAND, STOREFRONT])
async def test_a_document_is_validated_once(schema: strawberry.Schema) -> None:
    seen = ValidationCache(maxsize=DOCUMENTS).cached_validate_document.cache_info  # type: ignore[attr-defined]

    await schema.execute("{ __typename }", context_value=None)
    first = seen()
    await schema.execute("{ __typename }", context_value=None)
    second = seen()
    assert (second.misses, second.hits) == (first.misses, first.hits + 1)


@pytest.mark.parametrize("schema", [BRAND, STOREFRONT])
async def test_a_known_document_is_still_held_to_its_limits(schema: strawberry.Schema) -> None:
    async def messages(aliases: int) -> list[str]:
        document = "{ " + " ".join(f"a{n}: __typename" for n in range(aliases)) + " }"
        answer = await schema.execute(document, context_value=None)
        return [error.message for error in answer.errors or []]

    for _ in range(2):
        assert await messages(MAX_ALIASES) == []
        assert await messages(MAX_ALIASES + 1) == ["31 aliases found. Allowed: 30"]
