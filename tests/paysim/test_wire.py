"""The wire: nested forms, amounts in words, and requests nobody should send."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.paysim.config import Fees
from services.paysim.tariff import processing_fee, shown
from services.paysim.wire import parse_form


@pytest.mark.parametrize(
    ("form", "tree"),
    [
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("e[]=x&e[]=y", {"e": ["x", "y"]}),
        ("e[1]=y&e[0]=x", {"e": ["x", "y"]}),
        ("l[0][n]=a&l[1][n]=b", {"l": [{"n": "a"}, {"n": "b"}]}),
        ("m[%E9%94%AE]=%E5%80%BC", {"m": {"键": "值"}}),
        ("a=", {"a": ""}),
        ("", {}),
    ],
)
def test_nested_forms(form: str, tree: dict[str, Any]) -> None:
    assert parse_form(form) == tree


@pytest.mark.parametrize(
    ("amount", "fee"),
    # 2.9 % + 30, half up: 50 → 31.45; 1 → 30.029 capped at 1; 10,388 → 331.252; 500 → 44.5.
    [(50, 31), (1, 1), (10_388, 331), (500, 45), (100_000, 2_930)],
)
def test_the_processing_fee_is_rounded_half_up_and_never_above_the_payment(amount: int, fee: int) -> None:
    assert processing_fee(amount, Fees()) == fee


def test_amounts_are_written_with_their_currencys_digits() -> None:
    assert [shown(5, "usd"), shown(500, "jpy"), shown(1_234, "kwd")] == ["$0.05", "¥500", "1.234 KWD"]


@pytest.mark.parametrize(
    "form",
    [
        "amount[a]=1&currency=usd",
        "amount=100&currency[]=usd",
        "amount=100&currency=usd&metadata=x",
        "amount=100&currency=usd&metadata[a][b]=x",
        "amount=100&currency=usd&expand=x",
        "amount=100&currency=usd&expand[]=nothing",
        "amount=100&currency=usd&expand[]=a.b.c.d.e",
        "amount=100&currency=usd&payment_method_data=x",
        "amount=100&currency=usd&payment_method_data[type]=card&payment_method_data[card]=x",
        "amount=100&currency=usd&shipping=x",
        "amount=100&currency=usd&automatic_payment_methods[]=x",
        "amount=100&currency=usd&description=" + "x" * 5_001,
        "amount=%FF%FE&currency=usd",
        "&".join(f"p{n}=1" for n in range(2_100)),
    ],
)
def test_nonsense_is_a_400_and_never_a_500(paysim: Any, form: str) -> None:
    headers = {"authorization": "Bearer sk_test_suite"}
    answer = httpx.post(f"{paysim.url}/v1/payment_intents", content=form, headers=headers, trust_env=False)

    assert (answer.status_code, answer.json()["error"]["type"]) in {
        (400, "invalid_request_error"),
        (402, "card_error"),
    }


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/accounts", {"capabilities": "x"}),
        ("/v1/accounts", {"capabilities[transfers]": "x"}),
        ("/v1/accounts", {"settings[payouts]": "x"}),
        ("/v1/accounts", {"settings[payouts][schedule][interval]": "hourly"}),
        ("/v1/accounts", {"business_profile": "x"}),
        ("/v1/accounts", {"country": "Atlantis"}),
        ("/v1/account_links", {"account": "acct_1", "type": "other"}),
        ("/v1/webhook_endpoints", {"url": "ftp://x", "enabled_events[]": "*"}),
        ("/v1/payouts", {"amount": "5", "currency": "usd", "method": "pigeon"}),
    ],
)
def test_other_calls_refuse_nonsense_too(paysim: Any, path: str, form: dict[str, str]) -> None:
    assert paysim.refused(path, **form)["status"] == 400


def test_lists_refuse_bad_cursors_limits_and_ranges(paysim: Any) -> None:
    for query in ({"limit": "0"}, {"limit": "101"}, {"starting_after": "pi_absent"}, {"created[about]": "5"}):
        assert paysim.get("/v1/payment_intents", **query).status_code == 400
    assert paysim.get("/v1/balance_transactions", payout="po_absent").status_code == 400


def test_another_account_is_none_of_ours(paysim: Any) -> None:
    headers = {"authorization": "Bearer sk_test_suite", "stripe-account": "acct_absent"}
    answer = httpx.get(f"{paysim.url}/v1/balance", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "account_invalid")


def test_keys_of_absurd_length_are_refused(paysim: Any) -> None:
    assert paysim.post("/v1/payment_intents", key="k" * 256, amount=100, currency="usd").status_code == 400


def test_events_are_kept_for_thirty_days(paysim: Any) -> None:
    paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    event = paysim.get("/v1/events", limit=1).json()["data"][0]["id"]
    paysim.clock.advance(timedelta(days=29))
    assert paysim.get(f"/v1/events/{event}").status_code == 200
    paysim.clock.advance(timedelta(days=2))
    assert paysim.get(f"/v1/events/{event}").status_code == 404
