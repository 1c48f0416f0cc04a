"""The comparison of one group: agreement is recognised, and no change of one side stays unseen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from supply.settlement.reconciliation.findings import Finding, PostingFact, RowFact, judge
from supply.settlement.reconciliation.models import Role

AT = datetime(2026, 3, 2, tzinfo=UTC)


def row(amount: int, fee: int = 0, currency: str = "USD", type: str = "charge") -> RowFact:
    return RowFact("txn", type, currency, amount, fee, amount - fee, AT, AT)


def posting(amount: int, role: Role = Role.AMOUNT, currency: str = "USD", key: str = "j") -> PostingFact:
    return PostingFact(key, "capture", role, currency, amount, AT)


def agreeing(parts: list[int], fee: int) -> list[PostingFact]:
    """A charge of several orders, a journal each, and its fee."""
    booked = [posting(part, key=f"capture:{n}") for n, part in enumerate(parts)]
    return [*booked, posting(-fee, Role.FEE, key="fee")] if fee else booked


ORDERS = st.lists(st.integers(1, 10**9), min_size=1, max_size=4)


@given(ORDERS, st.integers(0, 10**6))
def test_a_charge_of_several_orders_and_its_fee_agree(parts: list[int], fee: int) -> None:
    assert judge([row(sum(parts), fee)], agreeing(parts, fee)) is None


@given(ORDERS, st.integers(1, 10**6), st.data())
def test_no_change_of_one_journal_stays_unseen(parts: list[int], fee: int, data: st.DataObject) -> None:
    booked = agreeing(parts, fee)
    index = data.draw(st.integers(0, len(booked) - 1))
    change = data.draw(st.sampled_from(["more", "gone", "twice"]))
    wrong = list(booked)
    if change == "more":
        by = data.draw(st.integers(1, 10**6))
        wrong[index] = replace(wrong[index], amount_minor=wrong[index].amount_minor + by)
    elif change == "gone":
        del wrong[index]
    else:
        wrong.append(replace(wrong[index], key="again"))
    assert judge([row(sum(parts), fee)], wrong) is not None


def test_each_finding_has_its_name() -> None:
    assert judge([row(100)], []) is Finding.NO_JOURNAL
    assert judge([row(100, type="moonbeam")], []) is Finding.UNKNOWN_TYPE
    assert judge([], [posting(100)]) is Finding.NO_ROW
    assert judge([row(100)], [posting(90)]) is Finding.AMOUNT_DIFFERS
    assert judge([row(100, 3)], agreeing([100], 4)) is Finding.FEE_DIFFERS
    assert judge([row(100)], [posting(100), posting(100, key="again")]) is Finding.DOUBLED
    assert judge([row(100, 3)], [posting(-3, Role.FEE)]) is Finding.NO_JOURNAL


def test_a_fee_inside_its_journal_and_a_conversion_agree() -> None:
    assert judge([row(-10_388, 1_500)], [posting(-11_888)]) is None
    converted = [
        posting(9_000, currency="EUR"),
        posting(-9_000, Role.CONVERSION, "EUR", "fx"),
        posting(9_720, Role.CONVERSION, "USD", "fx"),
        posting(-312, Role.FEE, "USD", "fee"),
    ]
    assert judge([row(9_720, 312)], converted) is None
    assert judge([row(9_720, 312)], converted[:1] + converted[3:]) is Finding.AMOUNT_DIFFERS
