"""Every field of both schemas, fed with texts, numbers and times no client should send: never a bug's answer.

The documents are made from the schema, so a field added later is tried as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import strawberry
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
)

from core import ids
from core.clock import FixedClock
from graph import brand, storefront
from infra.db.session import Database
from tests.factories.brands import committed_brand, committed_storefront
from tests.fixtures.documents import document, root_fields
from tests.fixtures.http import Served, codes_of, serving

_UNKNOWN = {kind.prefix: str(kind.new()) for kind in ids.TypedId.__subclasses__()} | {
    "brd": str(ids.BrandId.new()), "sup": str(ids.SupplierId.new()),
}  # fmt: skip
TEXTS = ["", "\x00", "a\x00b", "\ud800", "é" * 5_000, "'; DROP TABLE orders; --", "1e400", "2026-13-45"]
NUMBERS = [0, -1, 2**31 - 1, -(2**31)]
PPM = [0, -1, 1_000_001, 2**63, -(2**70), "many"]
TIMES = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-03-02T00:00:00Z",
    "soon",
    "2026-03-02T00:00:00",
]
ROUNDS = 8


def _value(kind: Any, name: str, round: int, depth: int = 0) -> Any:
    """A value of an input type; ``round`` chooses which of the absurd ones."""
    if isinstance(kind, GraphQLNonNull):
        return _value(kind.of_type, name, round, depth)
    if isinstance(kind, GraphQLList):
        several = [_value(kind.of_type, name, round + n, depth) for n in range(2)]
        return [several[0]] * 1_200 if round == 7 and depth < 2 else several
    if isinstance(kind, GraphQLEnumType):
        return sorted(kind.values)[round % len(kind.values)]
    if isinstance(kind, GraphQLInputObjectType):
        return {
            field: _value(given.type, field, round, depth + 1)
            for field, given in kind.fields.items()
            if not (given.default_value is None and round == 6)
        }
    assert isinstance(kind, GraphQLScalarType)
    return _scalar(kind.name, name, round)


def _scalar(kind: str, name: str, round: int) -> Any:
    if kind == "ID":
        return _id(name, round)
    if kind == "String":
        plausible = {"currencyCode": "CNY", "currency": "CNY", "country": "CN", "amount": "1.00", "code": "x"}
        return plausible.get(name, "text") if round in (5, 6) else TEXTS[round % len(TEXTS)]
    if kind == "DateTime":
        return TIMES[round % len(TIMES)]
    if kind == "Ppm":
        return PPM[round % len(PPM)]
    if kind == "Int":
        return NUMBERS[round % len(NUMBERS)]
    if kind == "JSON":
        return [{"a": {"b\x00": "\x00"}}, "text", 1e300, [[]], None, {"k": "v"}, {}, {"x": 2**70}][round % 8]
    return kind == "Boolean"


_PREFIX_OF_NAME = {
    "advertiserId": "brd", "promoterBrandId": "brd", "brandId": "brd", "brandIds": "brd", "productId": "prd",
    "variantId": "var", "variantIds": "var", "communityId": "com", "placementId": "plc", "orderId": "ord",
    "orderLineId": "oln", "supplierId": "sup", "promoterId": "pro", "proposalId": "prp", "cartId": "crt",
    "checkoutId": "chk", "agreementId": "agr", "contactIds": "con", "payeeId": "brd",
}  # fmt: skip


def _id(name: str, round: int) -> str:
    if round in (5, 6) or (name != "id" and round % 2):
        return _UNKNOWN[_PREFIX_OF_NAME.get(name, "prd")]
    return ["", "\x00", "prd_", "ord_" + "z" * 26, "ord_" + "7" * 10_000, "", "", "٣" * 30][round % 8]


def _documents(schema: strawberry.Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for word, name, field in root_fields(schema):
        if not field.args:
            continue
        id_of_this = _UNKNOWN.get(_own_prefix(name), _UNKNOWN["prd"])
        for round in range(ROUNDS):
            values = {arg: _value(given.type, arg, round) for arg, given in field.args.items()}
            if round in (5, 6):
                values = _with_ids(values, id_of_this)
            yield f"{name} #{round}", document(word, name, field, values), values


def _own_prefix(field: str) -> str:
    known = {
        "catalogImport": "imp", "fulfillmentOrder": "ful", "statementDocument": "stm", "explainOrder": "ord",
        "storefrontUpdate": "sfr", "linkDisable": "lnk", "apiTokenRotate": "tok", "apiTokenRevoke": "tok",
    }  # fmt: skip
    if field in known:
        return known[field]
    kinds: list[type[ids.TypedId]] = [*ids.TypedId.__subclasses__(), ids.BrandId, ids.SupplierId]
    for kind in kinds:
        if field.lower().startswith(kind.__name__.removesuffix("Id").lower()):
            return kind.prefix
    return "prd"


def _with_ids(value: Any, id: str) -> Any:
    if isinstance(value, dict):
        return {k: id if k == "id" else _with_ids(v, id) for k, v in value.items()}
    return [_with_ids(each, id) for each in value] if isinstance(value, list) else value


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


async def test_no_field_of_the_brand_api_answers_absurd_input_with_a_bug(
    served: Served, db: Database, clock: FixedClock
) -> None:
    _, token = await committed_brand(db, clock)
    bugs = []
    for name, asked, values in _documents(brand.schema):
        answer = await served.brand(asked, values, token=token)
        # A plausible payout account is asked of the payment provider, and there is none here.
        if "INTERNAL" in codes_of(answer) and not name.startswith("payoutAccountCreate"):
            bugs.append((name, values))
    assert not bugs, "\n".join(str(bug)[:300] for bug in bugs)


async def test_no_field_of_the_storefront_api_answers_absurd_input_with_a_bug(
    served: Served, db: Database, clock: FixedClock
) -> None:
    actor, _ = await committed_brand(db, clock)
    shop = await committed_storefront(db, clock, actor)
    bugs = []
    for name, asked, values in _documents(storefront.schema):
        answer = await served.storefront(asked, values, key=shop.key)
        if "INTERNAL" in codes_of(answer):
            bugs.append((name, values))
    assert not bugs, "\n".join(str(bug)[:300] for bug in bugs)
