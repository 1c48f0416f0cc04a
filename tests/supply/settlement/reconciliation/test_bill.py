"""The daily bill of a rail that shares payments itself, against what it told us."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.payments.sharing import BillRow, Receiver, ReceiverKind
from supply.settlement.rails.queries import ToldMovement
from supply.settlement.reconciliation.bill import compare_bill
from supply.settlement.reconciliation.findings import Finding

UNTIL = datetime(2026, 3, 2, 16, tzinfo=UTC)
AT = UNTIL - timedelta(hours=3)


def row(number: str = "r1", account: str = "m1", amount: int = 900, result: str = "SUCCESS") -> BillRow:
    receiver = Receiver(ReceiverKind.MERCHANT, account)
    return BillRow(AT, "merchant", "pay_1", "SHARE", number, receiver, amount, result, "")


def told(
    number: str = "r1", account: str = "m1", amount: int = 900, *, paid: bool = True, at: datetime = AT
) -> ToldMovement:
    return ToldMovement("pay_1", "merchant", number, account, amount, paid, at)


def found(
    rows: list[BillRow], ours: list[ToldMovement], before: list[BillRow] | None = None
) -> list[tuple[Finding, str, int, int]]:
    _, differences = compare_bill(rows, before or [], ours, UNTIL)
    return [(d.finding, d.account, d.billed_minor, d.recorded_minor) for d in differences]


def test_what_agrees_is_counted() -> None:
    rows = [
        row(),
        row(account="m2", result="CLOSED"),
        BillRow(AT, "m", "p", "FEE", "x", None, 3, "SUCCESS", ""),
    ]
    ours = [told(), told(account="m2", paid=False)]
    assert compare_bill(rows, [], ours, UNTIL) == (2, [])


@pytest.mark.parametrize(
    ("rows", "ours", "expected"),
    [
        ([row()], [], (Finding.NO_JOURNAL, "m1", 900, 0)),
        ([row()], [told(paid=False)], (Finding.NO_JOURNAL, "m1", 900, 0)),
        ([row(result="CLOSED")], [told()], (Finding.NO_ROW, "m1", 0, 900)),
        ([row(amount=901)], [told()], (Finding.AMOUNT_DIFFERS, "m1", 901, 900)),
        ([row(), row()], [told()], (Finding.DOUBLED, "m1", 1_800, 900)),
        ([], [told()], (Finding.NO_ROW, "m1", 0, 900)),
    ],
)
def test_every_difference_is_named(
    rows: list[BillRow], ours: list[ToldMovement], expected: tuple[Finding, str, int, int]
) -> None:
    assert found(rows, ours) == [expected]


def test_a_result_heard_of_late_is_the_bills_of_the_day_it_happened() -> None:
    assert found([row()], [told(at=UNTIL + timedelta(days=1))]) == []
    assert found([], [told()], before=[row()]) == []
    assert found([], [told(at=UNTIL + timedelta(hours=1))]) == []  # tomorrow's bill
