"""The port to whatever finds products: PostgreSQL here, other engines beside it.

A query cannot be made without saying whose products may be found: ``shelves`` has no default, and the
engine's own filter is built from it inside the port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, ProductId
from core.money import UnknownCurrency
from infra.search.filters import BadFilter, Field, Filter, checked

FACETS = (Field.BRAND, Field.CATEGORY, Field.TAG, Field.IN_STOCK)
LONGEST_TEXT = 200
MOST_FACET_VALUES = 100


@dataclass(frozen=True, slots=True)
class Shelf:
    """What of one brand may be found: all of it, or only some products, categories or SKUs.

    All three ``None``: no restriction. Otherwise any of those given is enough.
    """

    brand_id: BrandId
    product_ids: tuple[ProductId, ...] | None = None
    categories: tuple[str, ...] | None = None
    skus: tuple[str, ...] | None = None


class Sort(StrEnum):
    RELEVANCE = "relevance"
    NEWEST = "newest"
    PRICE_ASC = "price_asc"
    PRICE_DESC = "price_desc"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """``first`` hits after ``after`` (a cursor of the same query). Total and facets only when asked for.

    ``stage`` as a page before told it: count what that page was cut from. ``first=0`` looks for no hits.
    """

    shelves: Sequence[Shelf]
    text: str = ""
    currency: str = "CNY"
    locale: str = "zh-CN"
    filter: Filter | None = None
    facets: Sequence[Field] = ()
    sort: Sort = Sort.RELEVANCE
    first: int = 20
    after: tuple[str, ...] | None = None
    with_total: bool = False
    stage: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= 1000:
            raise BadFilter("first is 0 to 1000", field="first")
        if len(self.text) > LONGEST_TEXT:
            raise BadFilter(f"at most {LONGEST_TEXT} characters", field="text")
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise UnknownCurrency(self.currency)
        if unknown := [facet for facet in self.facets if facet not in FACETS]:
            raise BadFilter(f"no such facet: {unknown[0]}", field="facets")
        checked(self.filter)


@dataclass(frozen=True, slots=True)
class Hit:
    """``key`` is the cursor; ``score`` is comparable within one query only."""

    product_id: ProductId
    brand_id: BrandId
    score: int
    in_stock: bool
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchPage:
    """``stage`` tells how the text was matched: ``all`` words, or ``any`` because no document had all."""

    hits: Sequence[Hit]
    has_next: bool
    total: int | None = None
    facets: Mapping[Field, Mapping[str, int]] = field(default_factory=dict)
    stage: str = "all"
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    text: str
    product_id: ProductId


@dataclass(frozen=True, slots=True)
class Document:
    """One product as it is found. Never in it: cost, supplier terms, members.

    ``prices``: lowest and highest price of its variants per currency, in minor units. ``version`` grows with
    every change; an older one never replaces a newer.
    """

    product_id: ProductId
    brand_id: BrandId
    title_zh: str
    title_en: str
    category: str
    tags: Sequence[str]
    prices: Mapping[str, tuple[int, int]]
    in_stock: bool
    created_at: datetime
    version: int
    brand_names: Sequence[str] = ()
    description: str = ""
    attributes: Sequence[str] = ()
    skus: Sequence[str] = ()
    popularity: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    upserted: int
    deleted: int
    stale: int
    """Documents left out because the index had a newer version."""


@dataclass(frozen=True, slots=True)
class IndexStats:
    engine: str
    generation: int
    documents: int
    building: int | None = None
    """The generation a rebuild is writing, if one runs."""


class SearchIndex(Protocol):
    """``session`` is the caller's: an engine with a machine of its own does not use it."""

    async def search(self, session: AsyncSession, query: SearchQuery) -> SearchPage: ...

    async def suggest(
        self, session: AsyncSession, prefix: str, *, shelves: Sequence[Shelf], limit: int = 10
    ) -> list[Suggestion]: ...

    async def multi_search(
        self, session: AsyncSession, queries: Sequence[SearchQuery]
    ) -> list[SearchPage]: ...

    async def apply(
        self,
        session: AsyncSession,
        upserts: Sequence[Document],
        deletes: Sequence[ProductId] = (),
        *,
        generation: int | None = None,
    ) -> Applied:
        """Into the live generation and the one being built; idempotent. ``generation``: only into that."""
        ...

    async def begin_rebuild(self, session: AsyncSession) -> int:
        """A new, empty generation that nobody searches yet. Raises ``RebuildRunning``."""
        ...

    async def publish(self, session: AsyncSession, generation: int) -> None:
        """From this commit on, searches read ``generation``; the one before is gone."""
        ...

    async def drop(self, session: AsyncSession, generation: int) -> None:
        """Give up a generation that was not published."""
        ...

    async def stock_flags(
        self, session: AsyncSession, product_ids: Sequence[ProductId]
    ) -> dict[ProductId, bool]:
        """What the searched documents say; products without one are left out."""
        ...

    async def stats(self, session: AsyncSession) -> IndexStats: ...
