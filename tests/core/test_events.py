from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import uuid4

import pytest

from core.events import Event, event, from_body, to_body
from core.ids import OrderId
from core.money import Money


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Part:
    order_id: OrderId
    price: Money


@event("tests.painted")
@dataclass(frozen=True, slots=True)
class Painted(Event):
    order_id: OrderId
    at: datetime
    colour: Colour
    parts: tuple[Part, ...]
    other_id: OrderId | None = None
    note: str = "none"


def painted() -> Painted:
    order_id = OrderId.of(uuid4())
    return Painted(order_id, datetime(2026, 1, 2, tzinfo=UTC), Colour.RED, (Part(order_id, Money(5, "CNY")),))


def test_an_event_comes_back_as_it_was() -> None:
    once = painted()
    assert from_body("tests.painted", to_body(once)) == once


def test_a_field_of_a_newer_release_is_ignored_and_a_dropped_one_keeps_its_default() -> None:
    once = painted()
    body = {**to_body(once), "added_later": 1}
    del body["note"]

    assert from_body("tests.painted", body) == once


def test_a_name_nobody_registered_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        from_body("tests.unheard_of", {})


def test_two_events_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match=r"tests\.painted"):

        @event("tests.painted")
        @dataclass(frozen=True, slots=True)
        class Other(Event):
            pass
