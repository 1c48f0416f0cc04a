"""The text that two brands hash: the fast writer writes what the vocabulary's own writes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.canonical import canonical_json
from core.money import Money
from marketplace.promotion.facts import canonical_text


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    b: str
    a: int


@dataclass(frozen=True, slots=True)
class Fact:
    b: Any
    a: Any


letters = st.text(st.characters(exclude_categories=["Cs"]))
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), letters, st.just(Colour.RED),
    st.frozensets(letters), st.builds(Money, st.integers(-(10**15), 10**15), st.just("CNY")),
    st.datetimes(timezones=st.timezones()), st.builds(Pair, letters, st.integers(0, 9)),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(letters, inner),
        st.builds(Fact, inner, inner),
    ),
    max_leaves=12,
)


@given(values)
def test_one_value_has_one_text_whoever_writes_it(value: Any) -> None:
    assert canonical_text(value) == canonical_json(value)


@pytest.mark.parametrize("value", [object(), b"x", [2**64]])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_text(value)
