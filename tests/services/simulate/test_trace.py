"""A trace is read by people and compared by machines: numbers for ids, and where two of them part."""

from __future__ import annotations

from datetime import UTC, datetime

from core.ids import OrderId, RefundId
from services.simulate.trace import Names, Trace, first_difference

AT = datetime(2026, 3, 2, 8, tzinfo=UTC)


def test_things_are_numbered_by_kind_in_the_order_they_are_first_seen() -> None:
    names, order, refunds = Names(), OrderId.new(), [RefundId.new() for _ in range(2)]
    names.give(order, "order 9")

    body = {"refund_id": str(refunds[0]), "order_ids": [str(order)], "currency": "CNY", "amount_minor": 5}
    assert names.within(body) == "rfd 1, order 9"
    assert names.of(refunds[1]) == "rfd 2"
    assert names.of("re_vH2bpQx0A4c8mN5dTzLw91Yk") == "re 1"
    assert names.within(body) == "rfd 1, order 9"


def test_the_digest_says_whether_two_traces_are_the_same() -> None:
    digests = []
    for last in ("b", "b", "c"):
        trace = Trace()
        trace.note(1, AT, "a")
        trace.note(2, AT, last)
        digests.append(trace.digest)

    assert digests[0] == digests[1] != digests[2]


def test_two_traces_part_where_their_lines_differ_or_one_ends() -> None:
    assert first_difference(["a", "b"], ["a", "b"]) == ""
    assert first_difference(["a", "b", "c"], ["a", "x", "c"]) == "a\none:   b\nother: x"
    assert first_difference(["a", "b"], ["a"]) == "a\none:   b\nother: (over)"
    assert first_difference(list("abcd"), list("abce"), before=1) == "c\none:   d\nother: e"
