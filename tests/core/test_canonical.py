from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest

from core.canonical import canonical_json, content_hash, from_micros, to_micros
from core.ids import OrderId
from core.money import Money


@dataclass(frozen=True, slots=True)
class Fact:
    b: frozenset[str]
    a: Money


def test_one_value_has_one_text() -> None:
    fact = Fact(frozenset({"y", "x"}), Money(5, "CNY"))

    assert canonical_json(fact) == '{"a":{"amount_minor":5,"currency":"CNY"},"b":["x","y"]}'
    assert canonical_json({"β": 1, "a": None}) == '{"a":null,"β":1}'
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})


def test_an_instant_is_the_same_in_every_zone() -> None:
    at = datetime(2026, 3, 1, 8, 0, 0, 1, tzinfo=UTC)
    east = at.astimezone(timezone(timedelta(hours=8)))

    assert canonical_json([at]) == canonical_json([east])
    assert from_micros(to_micros(east)) == at


def test_an_id_is_written_in_its_outer_form() -> None:
    order_id = OrderId.new()

    assert canonical_json(order_id) == f'"{order_id}"'


@pytest.mark.parametrize("value", [object(), {1 + 2j}, b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_a_number_that_is_not_one_is_refused() -> None:
    with pytest.raises(ValueError):
        canonical_json(float("nan"))
