"""The index in PostgreSQL: our own tokens in a ``tsvector``, exact totals and facets, one row per product.

A text is first matched with all its words; when nothing has them all, with any. Two statements at most: the
hits, and, only when asked for, the total with every facet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    REAL,
    BigInteger,
    ColumnElement,
    String,
    and_,
    case,
    cast,
    desc,
    extract,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, MalformedId, ProductId
from core.pagination import BadPage
from infra.db.base import table_of
from infra.search.errors import NoSuchGeneration, RebuildRunning
from infra.search.filters import Field, conjuncts, without_own
from infra.search.index import (
    MOST_FACET_VALUES,
    Applied,
    Document,
    Hit,
    IndexStats,
    SearchPage,
    SearchQuery,
    Shelf,
    Sort,
    Suggestion,
)
from infra.search.models import GenerationStatus, SearchDocument, SearchGeneration
from infra.search.postgres_filters import condition, lowest_price, on_shelves
from infra.search.text import QueryWord, query_words, tsquery, tsvector

_DOCUMENTS = table_of(SearchDocument)
_D, _G = _DOCUMENTS.c, table_of(SearchGeneration).c
_LIVE = select(_G.number).where(_G.status == GenerationStatus.LIVE).scalar_subquery()
_WEIGHTS = cast([0.1, 0.3, 0.6, 1.0], ARRAY(REAL))
"""Of D (attributes), C (description), B (brand, category, tags) and A (title)."""
_SCORE_UNITS = 1_000_000
_NO_PRICE = 2**62
_ALL, _ANY = "all", "any"

_UPSERT = text("""
    INSERT INTO search_documents (generation, product_id, brand_id, title_zh, title_en, categories, tags,
        skus, prices, in_stock, popularity, tokens, created_at, version)
    SELECT g.number, d.product_id, d.brand_id, d.title_zh, d.title_en, d.categories, d.tags, d.skus, d.prices,
        d.in_stock, d.popularity, d.tokens::tsvector, d.created_at, d.version
    FROM search_generations g CROSS JOIN jsonb_to_recordset(CAST(:documents AS jsonb)) AS d(
        product_id uuid, brand_id uuid, title_zh text, title_en text, categories text[], tags text[],
        skus text[], prices jsonb, in_stock boolean, popularity integer, tokens text, created_at timestamptz,
        version bigint)
    WHERE CAST(:generation AS integer) IS NULL OR g.number = :generation
    ON CONFLICT (generation, product_id) DO UPDATE SET
        brand_id = excluded.brand_id, title_zh = excluded.title_zh, title_en = excluded.title_en,
        categories = excluded.categories, tags = excluded.tags, skus = excluded.skus,
        prices = excluded.prices,
        in_stock = excluded.in_stock, popularity = excluded.popularity, tokens = excluded.tokens,
        created_at = excluded.created_at, version = excluded.version
    WHERE search_documents.version <= excluded.version
    RETURNING product_id
""")
_DELETE = text(
    "DELETE FROM search_documents WHERE product_id = ANY(:ids)"
    " AND (CAST(:generation AS integer) IS NULL OR generation = :generation) RETURNING product_id"
)
_BEGIN = text(
    "INSERT INTO search_generations (number, status)"
    " SELECT max(number) + 1, 'building' FROM search_generations RETURNING number"
)
_FORGET_LIVE = text("DELETE FROM search_generations WHERE status = 'live'")
_PUBLISH = text("UPDATE search_generations SET status = 'live' WHERE number = :generation")
_FORGET_BUILDING = text(
    "DELETE FROM search_generations WHERE number = :generation AND status = 'building' RETURNING 1"
)
_CLEAN = text("DELETE FROM search_documents WHERE generation NOT IN (SELECT number FROM search_generations)")
_STATS = text(
    "SELECT g.number, g.status, (SELECT count(*) FROM search_documents d WHERE d.generation = g.number)"
    " FROM search_generations g"
)


class PostgresIndex:
    """``SearchIndex`` in the product's own database, inside the caller's transaction."""

    engine = "postgresql"

    async def search(self, session: AsyncSession, query: SearchQuery) -> SearchPage:
        """Raises ``BadFilter``, ``BadPage`` (a cursor of another list) or ``MalformedId``."""
        words = query_words(query.text)
        if query.text.strip() and not words:
            return SearchPage(
                (), False, 0 if query.with_total else None, {facet: {} for facet in query.facets}
            )
        stage = _stage_of(query.after) if query.after else query.stage or _ALL
        page = (
            await _page(session, query, words, stage) if query.first else SearchPage((), False, stage=stage)
        )
        if not page.hits and stage == _ALL and len(words) > 1 and not query.after and query.first:
            page = await _page(session, query, words, stage := _ANY)
        if not query.with_total and not query.facets:
            return page
        total, facets = await _counts(session, query, words, stage)
        shown = total if query.with_total else None
        return SearchPage(page.hits, page.has_next, shown, facets, stage, page.words)

    async def multi_search(self, session: AsyncSession, queries: Sequence[SearchQuery]) -> list[SearchPage]:
        return [await self.search(session, query) for query in queries]

    async def suggest(
        self, session: AsyncSession, prefix: str, *, shelves: Sequence[Shelf], limit: int = 10
    ) -> list[Suggestion]:
        """Titles that have all the words, the last of them perhaps unfinished; the popular first."""
        words = query_words(prefix)
        if not words:
            return []
        chinese = any(not word.text.isascii() for word in words)
        first, second = (_D.title_zh, _D.title_en) if chinese else (_D.title_en, _D.title_zh)
        title = case((first != "", first), else_=second)
        wanted = (
            select(title.label("title"), func.min(cast(_D.product_id, String)).label("product"))
            .where(*_base(shelves), _D.tokens.bool_op("@@")(_tsquery(words, _ALL)))
            .group_by(title)
            .order_by(desc(func.max(_D.popularity)), title)
            .limit(limit)
        )
        return [Suggestion(row.title, ProductId(row.product)) for row in await session.execute(wanted)]

    async def apply(
        self,
        session: AsyncSession,
        upserts: Sequence[Document],
        deletes: Sequence[ProductId] = (),
        *,
        generation: int | None = None,
    ) -> Applied:
        written: set[Any] = set()
        deleted: set[Any] = set()
        if upserts:
            rows = orjson.dumps([_row(document) for document in _newest(upserts)]).decode()
            done = await session.execute(_UPSERT, {"documents": rows, "generation": generation})
            written = set(done.scalars())
        if deletes:
            gone = await session.execute(_DELETE, {"ids": sorted(deletes), "generation": generation})
            deleted = set(gone.scalars())
        return Applied(len(written), len(deleted), len(upserts) - len(written))

    async def begin_rebuild(self, session: AsyncSession) -> int:
        try:
            async with session.begin_nested():
                return int((await session.execute(_BEGIN)).scalar_one())
        except IntegrityError as error:
            raise RebuildRunning("another generation is being built; publish or drop it first") from error

    async def publish(self, session: AsyncSession, generation: int) -> None:
        """Raises ``NoSuchGeneration`` unless it is the one being built."""
        if generation != (await self.stats(session)).building:
            raise NoSuchGeneration(f"generation {generation} is not being built")
        await session.execute(_FORGET_LIVE)
        await session.execute(_PUBLISH, {"generation": generation})
        await session.execute(_CLEAN)

    async def drop(self, session: AsyncSession, generation: int) -> None:
        if (await session.execute(_FORGET_BUILDING, {"generation": generation})).first() is None:
            raise NoSuchGeneration(f"generation {generation} is not being built")
        await session.execute(_CLEAN)

    async def stock_flags(
        self, session: AsyncSession, product_ids: Sequence[ProductId]
    ) -> dict[ProductId, bool]:
        wanted = select(_D.product_id, _D.in_stock).where(
            _D.generation == _LIVE, _D.product_id == func.any(list(product_ids))
        )
        return {row.product_id: row.in_stock for row in await session.execute(wanted)}

    async def stats(self, session: AsyncSession) -> IndexStats:
        known = {status: (number, count) for number, status, count in await session.execute(_STATS)}
        number, documents = known[GenerationStatus.LIVE]
        building = known.get(GenerationStatus.BUILDING, (None,))[0]
        return IndexStats(self.engine, number, documents, building)


async def _page(session: AsyncSession, query: SearchQuery, words: list[QueryWord], stage: str) -> SearchPage:
    key = _order_key(query, words, stage)
    wanted = select(_D.product_id, _D.brand_id, key.label("key"), _D.in_stock).where(
        *_base(query.shelves), *_text_match(words, stage), *_conditions(query)
    )
    if query.after:
        after, product_id = _position_of(query.after)
        wanted = wanted.where(or_(key < after, and_(key == after, _D.product_id > product_id)))
    wanted = wanted.order_by(desc("key"), _D.product_id).limit(query.first + 1)
    rows = (await session.execute(wanted)).all()
    hits = [
        Hit(row.product_id, row.brand_id, row.key, row.in_stock, (stage, str(row.key), str(row.product_id)))
        for row in rows[: query.first]
    ]
    return SearchPage(hits, len(rows) > query.first, stage=stage, words=[word.text for word in words])


async def _counts(
    session: AsyncSession, query: SearchQuery, words: list[QueryWord], stage: str
) -> tuple[int, Mapping[Field, Mapping[str, int]]]:
    """The total, and every facet's values counted without the facet's own filter. One statement."""
    matched = (
        select(_D.brand_id, _D.categories, _D.tags, _D.in_stock, _D.prices, _D.product_id, _D.created_at)
        .where(*_base(query.shelves), *_text_match(words, stage))
    )  # fmt: skip
    total = select(literal(""), literal(""), func.count()).select_from(
        matched.where(*_conditions(query)).subquery()
    )
    parts = [total] + [_facet(query, words, stage, facet) for facet in query.facets]
    facets: dict[Field, dict[str, int]] = {facet: {} for facet in query.facets}
    found = 0
    for name, value, count in await session.execute(union_all(*parts)):
        if name:
            facets[Field(name)][str(BrandId(value)) if name == Field.BRAND else value] = count
        else:
            found = count
    return found, {name: _largest(counts) for name, counts in facets.items()}


def _facet(query: SearchQuery, words: list[QueryWord], stage: str, facet: Field) -> Any:
    value: Any = {
        Field.BRAND: cast(_D.brand_id, String),
        Field.IN_STOCK: cast(_D.in_stock, String),
        Field.CATEGORY: func.unnest(_D.categories),
        Field.TAG: func.unnest(_D.tags),
    }[facet]
    others = [condition(part, query.currency) for part in without_own(query.filter, facet)]
    valued = select(value.label("value")).where(*_base(query.shelves), *_text_match(words, stage), *others)
    each = valued.subquery()
    return select(literal(facet.value), each.c.value, func.count()).group_by(each.c.value)


def _largest(counts: dict[str, int]) -> dict[str, int]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:MOST_FACET_VALUES])


def _base(shelves: Iterable[Shelf]) -> list[ColumnElement[bool]]:
    return [_D.generation == _LIVE, on_shelves(shelves)]


def _conditions(query: SearchQuery) -> list[ColumnElement[bool]]:
    return [condition(part, query.currency) for part in conjuncts(query.filter)]


def _tsquery(words: list[QueryWord], stage: str) -> Any:
    return cast(tsquery(words, every=stage == _ALL), TSQUERY)


def _text_match(words: list[QueryWord], stage: str) -> list[ColumnElement[bool]]:
    return [_D.tokens.bool_op("@@")(_tsquery(words, stage))] if words else []


def _order_key(query: SearchQuery, words: list[QueryWord], stage: str) -> ColumnElement[int]:
    """A whole number, the larger the earlier, so that a page can begin exactly after a hit."""
    match query.sort:
        case Sort.NEWEST:
            return cast(extract("epoch", _D.created_at) * 1_000_000, BigInteger)
        case Sort.PRICE_ASC:
            return -func.coalesce(lowest_price(query.currency), _NO_PRICE)
        case Sort.PRICE_DESC:
            return func.coalesce(lowest_price(query.currency), -1)
        case Sort.POPULAR:
            return cast(_D.popularity, BigInteger)
        case _ if not words:
            return cast(_D.popularity, BigInteger)
        case _:
            # Nearness of the words counts only where all of them are there.
            rank = func.ts_rank_cd if stage == _ALL else func.ts_rank
            score = rank(_WEIGHTS, _D.tokens, _tsquery(words, stage))
            boost = 1 + func.least(_D.popularity, 1000) / 10_000.0  # at most a tenth
            return cast(score * boost * _SCORE_UNITS, BigInteger)


def _stage_of(after: tuple[str, ...]) -> str:
    if len(after) != 3 or after[0] not in (_ALL, _ANY):
        raise BadPage("the cursor is not one of this list", field="after")
    return after[0]


def _position_of(after: tuple[str, ...]) -> tuple[int, ProductId]:
    try:
        return int(after[1]), ProductId.parse(after[2])
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="after") from error


def _newest(documents: Sequence[Document]) -> list[Document]:
    """One per product: the newest, in the order of ids, so that two writers lock alike."""
    latest: dict[ProductId, Document] = {}
    for document in sorted(documents, key=lambda d: (d.product_id, d.version)):
        latest[document.product_id] = document
    return list(latest.values())


def _row(document: Document) -> dict[str, Any]:
    path = document.category.split("/") if document.category else []
    weighted = {
        "A": [document.title_zh, document.title_en],
        "B": [*document.brand_names, *path, *document.tags],
        "C": [document.description],
        "D": [*document.attributes, *document.skus],
    }
    return {
        "product_id": document.product_id.hex, "brand_id": document.brand_id.hex,
        "title_zh": document.title_zh, "title_en": document.title_en,
        "categories": ["/".join(path[: depth + 1]) for depth in range(len(path))],
        "tags": list(document.tags), "skus": list(document.skus),
        "prices": {c: list(p) for c, p in document.prices.items()},
        "in_stock": document.in_stock, "popularity": document.popularity, "tokens": tsvector(weighted),
        "created_at": document.created_at, "version": document.version,
    }  # fmt: skip
