from __future__ import annotations

import time
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import BrandId, MalformedId, OrderId, TenantId, ids_drawn_from


@given(st.uuids())
def test_the_outer_form_reads_back(value: UUID) -> None:
    order_id = OrderId.of(value)

    assert OrderId.parse(str(order_id)) == order_id == value
    assert len(str(order_id)) == len("ord_") + 26


@pytest.mark.parametrize(
    "text",
    ["", "ord_", "brd_00000000000000000000000000", "ord_8zzzzzzzzzzzzzzzzzzzzzzzzz", "ord_" + "0" * 25,
     "0" * 26, "ord_" + "u" * 26, "ORD_" + "0" * 26, "ord_" + "0" * 27, "ord_" + "O" * 26],
)  # fmt: skip
def test_another_kind_length_or_letter_is_refused(text: str) -> None:
    with pytest.raises(MalformedId):
        OrderId.parse(text)


def test_ids_made_later_sort_later_even_within_a_millisecond() -> None:
    made = [OrderId.new() for _ in range(2_000)]

    assert made == sorted(made)
    assert [str(each) for each in made] == sorted(str(each) for each in made)
    assert len(set(made)) == len(made)


def test_an_id_is_a_version_seven_uuid_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = BrandId.new()

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert 0 <= (made.int >> 80) - before < 60_000
    assert isinstance(made, TenantId)


def test_drawn_ids_follow_from_their_source_and_grow_before_inside_and_after() -> None:
    def drawn() -> list[OrderId]:
        with ids_drawn_from(Random(1).randbytes, lambda: 1_700_000_000_123_000_000):
            return [OrderId.new() for _ in range(100)]

    before = OrderId.new()
    first = drawn()

    assert first == sorted(set(first)) == drawn()
    assert {each.int >> 80 for each in first} == {1_700_000_000_123}
    assert before < OrderId.new()
