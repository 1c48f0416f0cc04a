"""Connected accounts, transfers, reversals, payouts, and the balances between them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx


def available(paysim: Any, account: str | None = None) -> int:
    headers = {"authorization": "Bearer sk_test_suite"} | ({"stripe-account": account} if account else {})
    body = httpx.get(f"{paysim.url}/v1/balance", headers=headers, trust_env=False).json()
    return next((row["amount"] for row in body["available"] if row["currency"] == "usd"), 0)


def drain(paysim: Any) -> None:
    """Pays the platform's available dollars out, so that a test starts from none."""
    if (held := available(paysim)) > 0:
        paysim.ok("/v1/payouts", amount=held, currency="usd")


def test_a_transfer_needs_available_money_or_a_source(paysim: Any) -> None:
    drain(paysim)
    account = paysim.account()["id"]
    charge = paysim.paid(10_000, transfer_group="O1")["latest_charge"]
    wanted = {"amount": 6_000, "currency": "usd", "destination": account}

    short = paysim.refused("/v1/transfers", **wanted)
    assert (short["status"], short["code"]) == (400, "balance_insufficient")

    first = paysim.ok("/v1/transfers", source_transaction=charge, **wanted)
    assert (first["transfer_group"], first["source_transaction"]) == ("O1", charge)
    beyond = paysim.refused("/v1/transfers", source_transaction=charge, **{**wanted, "amount": 4_001})
    assert beyond["param"] == "amount"
    paysim.ok("/v1/transfers", source_transaction=charge, **{**wanted, "amount": 4_000})
    group = paysim.get("/v1/transfers", transfer_group="O1").json()
    assert sum(row["amount"] for row in group["data"]) == 10_000

    # The receiver's money becomes available with the charge, two days on.
    assert available(paysim, account) == 0
    paysim.clock.advance(timedelta(days=2, seconds=1))
    assert available(paysim, account) == 10_000


def test_a_transfer_moves_money_once_and_comes_back_in_parts(paysim: Any) -> None:
    paysim.funded(50_000)
    account, before = paysim.account()["id"], available(paysim)
    transfer = paysim.ok(
        "/v1/transfers", amount=1_731, currency="usd", destination=account, transfer_group="B1"
    )
    assert (available(paysim), available(paysim, account)) == (before - 1_731, 1_731)

    path = f"/v1/transfers/{transfer['id']}/reversals"
    reversal = paysim.ok(path, amount=308)
    assert (reversal["object"], reversal["amount"]) == ("transfer_reversal", 308)
    assert paysim.refused(path, amount=1_424)["param"] == "amount"
    paysim.ok(path)
    assert paysim.refused(path)["message"].endswith("already fully reversed.")

    after = paysim.get(f"/v1/transfers/{transfer['id']}").json()
    assert (after["amount_reversed"], after["reversed"], len(after["reversals"]["data"])) == (1_731, True, 2)
    assert (available(paysim), available(paysim, account)) == (before, 0)


def test_a_reversal_needs_the_receivers_money(paysim: Any) -> None:
    paysim.funded(50_000)
    account = paysim.account()["id"]
    transfer = paysim.ok("/v1/transfers", amount=5_000, currency="usd", destination=account)
    headers = {"authorization": "Bearer sk_test_suite", "stripe-account": account}
    form = {"amount": "4000", "currency": "usd"}
    paid_out = httpx.post(f"{paysim.url}/v1/payouts", data=form, headers=headers, trust_env=False)
    assert paid_out.status_code == 200

    refused = paysim.refused(f"/v1/transfers/{transfer['id']}/reversals", amount=1_001)
    assert refused["code"] == "balance_insufficient"
    paysim.ok(f"/v1/transfers/{transfer['id']}/reversals", amount=1_000)


def test_transfers_refuse_absent_and_restricted_receivers(paysim: Any) -> None:
    paysim.funded()
    absent = paysim.refused("/v1/transfers", amount=5, currency="usd", destination="acct_absent")
    assert (absent["code"], absent["param"]) == ("resource_missing", "destination")
    account = paysim.account()["id"]
    paysim.admin("POST", f"/accounts/{account}", transfers="inactive")
    restricted = paysim.refused("/v1/transfers", amount=5, currency="usd", destination=account)
    assert restricted["code"] == "insufficient_capabilities_for_transfer"
    assert paysim.refused("/v1/transfers", currency="usd", destination=account)["code"] == "parameter_missing"
    assert (
        paysim.refused("/v1/transfers", amount=-5, currency="usd", destination=account)["param"] == "amount"
    )


def test_a_payout_is_paid_on_its_day_or_fails_and_comes_back(paysim: Any, receiver: Any) -> None:
    paysim.funded(50_000)
    before = available(paysim)
    good = paysim.ok("/v1/payouts", amount=2_000, currency="usd")
    paysim.fault("payout_failure", code="account_closed")
    bad = paysim.ok("/v1/payouts", amount=3_000, currency="usd")
    cancelled = paysim.ok("/v1/payouts", amount=1_000, currency="usd")
    assert paysim.ok(f"/v1/payouts/{cancelled['id']}/cancel")["status"] == "canceled"
    assert available(paysim) == before - 5_000
    over = paysim.refused("/v1/payouts", amount=before, currency="usd")
    assert over["code"] == "balance_insufficient"

    paysim.clock.advance(timedelta(days=2, seconds=1))
    receiver.wait("payout.failed")
    assert paysim.get(f"/v1/payouts/{good['id']}").json()["status"] == "paid"
    failed = paysim.get(f"/v1/payouts/{bad['id']}").json()
    assert (failed["status"], failed["failure_code"]) == ("failed", "account_closed")
    types = [row["type"] for row in paysim.get("/v1/balance_transactions", source=bad["id"]).json()["data"]]
    assert types == ["payout_failure", "payout"]


def test_an_account_is_ready_at_once_and_can_be_sent_through_onboarding(paysim: Any) -> None:
    account = paysim.account(**{"metadata[party_ref]": "P1"})
    assert account["capabilities"] == {"transfers": "active"}
    assert account["metadata"] == {"party_ref": "P1"}
    assert paysim.get(f"/v1/accounts/{account['id']}").json()["id"] == account["id"]
    assert paysim.get("/v1/accounts/acct_absent").status_code == 403
    link = paysim.ok(
        "/v1/account_links",
        account=account["id"],
        type="account_onboarding",
        refresh_url="https://lianyu.test/again",
        return_url="https://lianyu.test/back",
    )
    assert httpx.get(link["url"], trust_env=False).status_code == 200
    done = httpx.post(link["url"], trust_env=False)
    assert done.headers["location"] == "https://lianyu.test/back"
    assert httpx.get(link["url"], trust_env=False).status_code == 410


def test_balance_transactions_page_by_time_and_sum_to_the_balance(paysim: Any) -> None:
    paysim.funded(20_000)
    start = paysim.admin("GET", "/state")["now"]
    paysim.clock.advance(timedelta(minutes=1))
    for amount in (1_000, 2_000, 3_000):
        paysim.paid(amount)
    end = paysim.admin("GET", "/state")["now"] + 1
    query = {"created[gt]": start, "created[lt]": end, "type": "charge", "limit": 2}

    first = paysim.get("/v1/balance_transactions", **query).json()
    rest = paysim.get("/v1/balance_transactions", **query, starting_after=first["data"][-1]["id"]).json()
    back = paysim.get("/v1/balance_transactions", **query, ending_before=rest["data"][0]["id"]).json()

    assert ([row["amount"] for row in first["data"]], first["has_more"]) == ([3_000, 2_000], True)
    assert ([row["amount"] for row in rest["data"]], rest["has_more"]) == ([1_000], False)
    assert back["data"] == first["data"]
    net = 0
    cursor: dict[str, str] = {}
    while True:
        page = paysim.get("/v1/balance_transactions", currency="usd", limit=100, **cursor).json()
        net += sum(row["net"] for row in page["data"])
        if not page["has_more"]:
            break
        cursor = {"starting_after": page["data"][-1]["id"]}
    body = paysim.get("/v1/balance").json()
    held = sum(
        row["amount"] for name in ("available", "pending") for row in body[name] if row["currency"] == "usd"
    )
    assert net == held


def test_a_foreign_charge_settles_at_the_rate(paysim: Any) -> None:
    paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.08"})
    intent = paysim.paid(9_000, "eur", **{"expand[]": "latest_charge.balance_transaction"})
    paysim.admin("POST", "/fx")
    transaction = intent["latest_charge"]["balance_transaction"]
    # EUR 90.00 at 1.08 is USD 97.20 (money.md R10); 2.9 % + 30 of it is 311.88, half up 312.
    assert (transaction["amount"], transaction["currency"], transaction["exchange_rate"]) == (
        9_720,
        "usd",
        1.08,
    )
    assert transaction["fee"] == 312
