"""The filter tree and the shelves as conditions on ``search_documents``. Values are bound, never spliced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, String, and_, cast, extract, false, func, not_, or_, true
from sqlalchemy.dialects.postgresql import ARRAY

from core.ids import BrandId, ProductId
from infra.db.base import table_of
from infra.db.text import storable
from infra.search.filters import And, BadFilter, Eq, Exists, Field, Filter, In, Not, Or, Range, Value
from infra.search.index import Shelf
from infra.search.models import SearchDocument

_D = table_of(SearchDocument).c
Condition: TypeAlias = ColumnElement[bool]


def lowest_price(currency: str) -> ColumnElement[int]:
    return cast(_D.prices[currency][0].astext, BigInteger)


def highest_price(currency: str) -> ColumnElement[int]:
    return cast(_D.prices[currency][1].astext, BigInteger)


def on_shelves(shelves: Iterable[Shelf]) -> Condition:
    """On any of them; with none, nothing is found."""
    whole: list[BrandId] = []
    parts: list[Condition] = []
    for shelf in shelves:
        if shelf.product_ids is None and shelf.categories is None and shelf.skus is None:
            whole.append(shelf.brand_id)
            continue
        chosen = or_(
            _D.product_id == func.any(list(shelf.product_ids or ())),
            _overlap(_D.categories, shelf.categories or ()),
            _overlap(_D.skus, shelf.skus or ()),
        )
        parts.append(and_(_D.brand_id == shelf.brand_id, chosen))
    if whole:
        parts.append(_D.brand_id == func.any(whole))
    return or_(*parts) if parts else false()


def condition(tree: Filter, currency: str) -> Condition:
    """Raises ``BadFilter`` for a value that its field cannot have."""
    match tree:
        case And(parts):
            return and_(true(), *(condition(part, currency) for part in parts))
        case Or(parts):
            return or_(false(), *(condition(part, currency) for part in parts))
        case Not(part):
            # A document without a price is outside of every price range: NULL counts as no.
            return not_(func.coalesce(condition(part, currency), false()))
        case Eq(field, value):
            return _one_of(field, [value], currency)
        case In(field, values):
            return _one_of(field, values, currency)
        case Range(field, low, high):
            return _between(field, low, high, currency)
        case Exists(field):
            return _exists(field, currency)


def _one_of(field: Field, values: Sequence[Value], currency: str) -> Condition:
    match field:
        case Field.BRAND:
            return _D.brand_id == func.any([BrandId.parse(_text(v)) for v in values])
        case Field.PRODUCT:
            return _D.product_id == func.any([ProductId.parse(_text(v)) for v in values])
        case Field.CATEGORY:
            return _overlap(_D.categories, [_text(v) for v in values])
        case Field.TAG:
            return _overlap(_D.tags, [_text(v) for v in values])
        case Field.IN_STOCK:
            return or_(false(), *(_D.in_stock.is_(_flag(v)) for v in values))
        case Field.PRICE | Field.CREATED:
            return or_(false(), *(_between(field, _whole(v), _whole(v), currency) for v in values))


def _between(field: Field, low: int | None, high: int | None, currency: str) -> Condition:
    """A product is in a price range when some price between its lowest and highest is."""
    bounds: list[Any] = []
    if field is Field.PRICE:
        bounds += [] if low is None else [highest_price(currency) >= low]
        bounds += [] if high is None else [lowest_price(currency) <= high]
    else:
        created = extract("epoch", _D.created_at)
        bounds += [] if low is None else [created >= low]
        bounds += [] if high is None else [created <= high]
    return and_(_exists(field, currency), *bounds)


def _exists(field: Field, currency: str) -> Condition:
    match field:
        case Field.PRICE:
            return _D.prices.bool_op("?")(currency)
        case Field.TAG:
            return func.cardinality(_D.tags) > 0
        case Field.CATEGORY:
            return func.cardinality(_D.categories) > 0
        case _:
            return true()


def _overlap(column: ColumnElement[Any], values: Sequence[str]) -> Condition:
    return column.bool_op("&&")(cast(list(values), ARRAY(String)))


def _text(value: Value) -> str:
    if not isinstance(value, str) or len(value) > 500 or not storable(value):
        raise BadFilter("this field takes a short text", field="filter")
    return value


def _whole(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadFilter("this field takes a whole number", field="filter")
    return value


def _flag(value: Value) -> bool:
    if not isinstance(value, bool):
        raise BadFilter("this field is true or false", field="filter")
    return value
