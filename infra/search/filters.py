"""The filter tree: what a caller may ask for, as values and never as text of an engine's language."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from core.errors import Invalid

MOST_NODES = 200


class BadFilter(Invalid):
    code = "BAD_FILTER"


class Field(StrEnum):
    """What documents can be filtered by. The last three also are facets' names."""

    PRODUCT = "product"
    PRICE = "price"
    """In minor units of the query's currency."""
    IN_STOCK = "in_stock"
    CREATED = "created"
    """Seconds since 1970 UTC."""
    BRAND = "brand"
    CATEGORY = "category"
    """A path; a product is in every ancestor of its category."""
    TAG = "tag"


Value: TypeAlias = str | int | bool


@dataclass(frozen=True, slots=True)
class Eq:
    field: Field
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """Any of the values; of none of them, nothing."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends included; ``None`` is open. Only ``PRICE`` and ``CREATED`` have an order."""

    field: Field
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The document has a value, e.g. a price in the query's currency."""

    field: Field


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Filter: TypeAlias = Eq | In | Range | Exists | And | Or | Not


def fields_of(tree: Filter) -> frozenset[Field]:
    """Every field the tree asks about."""
    match tree:
        case And(parts) | Or(parts):
            return frozenset().union(*(fields_of(part) for part in parts))
        case Not(part):
            return fields_of(part)
        case _:
            return frozenset({tree.field})


def conjuncts(tree: Filter | None) -> tuple[Filter, ...]:
    """The parts that must all hold, nested conjunctions opened up."""
    match tree:
        case None:
            return ()
        case And(parts):
            return tuple(part for each in parts for part in conjuncts(each))
        case _:
            return (tree,)


def without_own(tree: Filter | None, facet: Field) -> tuple[Filter, ...]:
    """The conjuncts that count for a facet group: all but those about nothing else than the facet."""
    return tuple(part for part in conjuncts(tree) if fields_of(part) != {facet})


def checked(tree: Filter | None) -> Filter | None:
    """Raises ``BadFilter`` for a tree too large, or a range over what has no order."""
    if tree is not None and _size(tree) > MOST_NODES:
        raise BadFilter(f"a filter has at most {MOST_NODES} nodes and values", field="filter")
    return tree


def _size(tree: Filter) -> int:
    match tree:
        case And(parts) | Or(parts):
            return 1 + sum(_size(part) for part in parts)
        case Not(part):
            return 1 + _size(part)
        case In(_, values):
            return 1 + len(values)
        case Range(field, low, high):
            if field not in (Field.PRICE, Field.CREATED):
                raise BadFilter(f"{field} has no order, so no range", field="filter")
            if low is not None and high is not None and low > high:
                raise BadFilter("the range ends before it begins", field="filter")
            return 1
        case _:
            return 1
