"""A run is sound only when every acknowledged order is there once and every sum agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.demo.facts import Facts
from services.demo.proof import Proof
from services.demo.report import Driven, problems

# One paid checkout of one order: 236.00 paid, of which the provider holds all and the parties are owed all.
SOUND = Facts(
    checkouts=[{"status": "paid", "n": 1}],
    sales=[{"brand": "A", "currency": "CNY", "orders": 1, "total_minor": 23_600}],
    commissions=[{"payee": "P", "role": "promoter_brand", "currency": "CNY", "earned_minor": 1_520}],
    attribution={"clicks": 2, "decisions": 1, "orders_with_commission": 1, "orders_by_code": 1},
    partners=[{"order_id": "ord_1", "advertiser": "brd_a", "promoter": "brd_p"}],
    not_the_same=[],
    routing=[],
    reroutes=0,
    fulfillment=[],
    refunds=[],
    parties=[],
    payouts=[{"status": "paid", "currency": "CNY", "n": 3, "amount_minor": 100}],
    platform=[],
    identities=[{"number": "LY1", "currency": "CNY", "holds": True}],
    trial_balance=[
        {"code": 1010, "currency": "CNY", "debit_minor": 23_600},
        {"code": 2000, "currency": "CNY", "debit_minor": -23_600},
    ],
    unbalanced_journals=0,
    mismatched_balances=0,
    unsettled={"refunds_pending": 0, "payouts_open": 0, "messages_waiting": 0},
    failed_messages=[],
    webhooks=[],
    acknowledged=[{"id": "chk_1", "status": "paid", "orders": 1}],
    payments={"captured": 1, "charges": 1},
    impossible_stock=0,
    names={},
)
PROOF = Proof("ord_1", "brd_a", "brd_p", ("input", "amounts", "result"), ())
HELD = {"CNY": 23_600}


def driven() -> Driven:
    return Driven(placed=["chk_1"], paid={"chk_1"}, asked_for=1, codes=1, proofs=[PROOF])


def test_a_sound_run_has_no_problems() -> None:
    assert problems(SOUND, driven(), HELD) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"acknowledged": []}, "was acknowledged and is not there"),
        ({"acknowledged": [{"id": "chk_1", "status": "placed", "orders": 1}]}, "was paid and is placed"),
        ({"checkouts": [{"status": "paid", "n": 2}]}, "2 checkouts are paid, 1 were acknowledged"),
        ({"payments": {"captured": 2, "charges": 1}}, "2 payments"),
        ({"identities": [{"number": "LY1", "currency": "CNY", "holds": False}]}, "identity of order LY1"),
        ({"identities": []}, "0 identities for 1 orders"),
        ({"unbalanced_journals": 1}, "1 journals are not balanced"),
        ({"mismatched_balances": 2}, "2 balances differ"),
        ({"failed_messages": [{"n": 1, "handler": "h", "error": "e"}]}, "1 × h gave up: e"),
        ({"unsettled": {"refunds_pending": 1}}, "refunds pending: 1"),
        ({"impossible_stock": 1}, "1 stock levels"),
        ({"payouts": []}, "nobody was paid out"),
        ({"commissions": []}, "nobody earned a commission"),
        ({"not_the_same": ["ord_1 result hash"]}, "decided again, it is not the same: ord_1 result hash"),
        ({"partners": []}, "1 of 0 pairs of brands verified"),
        ({"attribution": {"orders_by_code": 0}}, "nobody was credited for one"),
    ],
)
def test_whatever_is_wrong_is_said(broken: dict[str, Any], said: str) -> None:
    found = problems(replace(SOUND, **broken), driven(), HELD)

    assert any(said in problem for problem in found), found


@pytest.mark.parametrize("hashes", [(), ("input", "amounts", "result")])
def test_brands_that_do_not_find_the_same_are_said(hashes: tuple[str, ...]) -> None:
    run = driven()
    run.proofs = [replace(PROOF, hashes=hashes, differences=("result hash: 1 told, 2 found",))]

    (problem,) = problems(SOUND, run, HELD)

    assert problem == "two brands do not agree on ord_1: result hash: 1 told, 2 found"


def test_books_that_do_not_sum_to_nothing_are_said() -> None:
    lines = [
        {"code": 1010, "currency": "CNY", "debit_minor": 23_600},
        {"code": 2000, "currency": "CNY", "debit_minor": -23_599},
    ]

    (problem,) = problems(replace(SOUND, trial_balance=lines), driven(), HELD)

    assert problem == "the books do not sum to nothing: 0.01 CNY"


def test_a_provider_that_holds_another_sum_is_said() -> None:
    (problem,) = problems(SOUND, driven(), {"CNY": 23_599})

    assert problem == "the provider holds 235.99 CNY, the books say 236.00 CNY"


def test_too_few_orders_are_said() -> None:
    few = driven()
    few.asked_for = 2

    assert problems(SOUND, few, HELD) == ["1 paid orders, 2 were to be made"]


def test_an_order_acknowledged_twice_is_said() -> None:
    twice = driven()
    twice.placed = ["chk_1", "chk_1"]

    assert problems(SOUND, twice, HELD) == ["a checkout was acknowledged twice"]
