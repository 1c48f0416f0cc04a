"""The command line turns switches and shows the books."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from services.paysim.cli import app


def run(paysim: Any, *arguments: str, key: str = "ak_suite") -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--url", paysim.url, "--admin-key", key, *arguments])
    return result.exit_code, result.output


def test_a_switch_is_turned_on_listed_and_cleared(paysim: Any) -> None:
    code, shown = run(
        paysim, "fault", "decline", "--once", "--match", "currency=eur", "--option", "code=lost_card"
    )
    fault = json.loads(shown)
    assert code == 0
    assert (fault["remaining"], fault["match"], fault["options"]) == (
        1,
        {"currency": "eur"},
        {"code": "lost_card"},
    )
    assert len(json.loads(run(paysim, "faults")[1])) == 1
    assert json.loads(run(paysim, "clear", str(fault["id"]))[1]) == {"removed": 1}


def test_books_state_disputes_and_wrong_keys(paysim: Any) -> None:
    before = json.loads(run(paysim, "state")[1])["objects"].get("dispute", 0)
    intent = paysim.paid(5_000)
    code, shown = run(paysim, "dispute", intent["id"], "--amount", "2000")
    dispute = json.loads(shown)
    assert (code, dispute["amount"]) == (0, 2_000)
    assert json.loads(run(paysim, "close-dispute", dispute["id"], "won")[1])["status"] == "won"
    assert run(paysim, "books")[0] == 0
    assert json.loads(run(paysim, "state")[1])["objects"]["dispute"] == before + 1
    assert run(paysim, "state", key="wrong")[0] == 1


def test_what_the_outside_world_does_has_commands_too(paysim: Any) -> None:
    def done(*arguments: str) -> Any:
        code, shown = run(paysim, *arguments)
        assert code == 0, shown
        return json.loads(shown)

    intent = paysim.paid(5_000)
    inquiry = done("dispute", intent["id"], "--inquiry")
    assert inquiry["status"] == "warning_needs_response"
    assert done("escalate", inquiry["id"])["status"] == "needs_response"
    won = done("close-dispute", inquiry["id"], "won", "--fee-back")
    assert sum(row["net"] for row in won["balance_transactions"]) == 0
    assert done("warn", intent["id"], "--fraud-type", "misc")["charge"] == intent["latest_charge"]

    row = done("inject", "--source", "fee_1", "stripe_fee", "--", "-250")
    assert (row["net"], row["source"]) == (-250, "fee_1")
    paysim.funded(20_000)
    assert done("automatic-payout")["automatic"]
    assert done("fx", "eur=usd:1.08") == {"eur": {"to": "usd", "rate": "1.08"}}
    assert done("fx") == {}
    account = paysim.account()["id"]
    assert done("restrict", account, "--transfers", "inactive", "--no-payouts")["payouts_enabled"] is False
    paysim.fault("refund_action")
    refund = paysim.ok("/v1/refunds", payment_intent=paysim.paid(5_000)["id"])
    assert done("succeed-refund", refund["id"])["status"] == "succeeded"
    assert all(row["state"] == "delivered" for row in done("deliveries", "--state", "delivered"))
