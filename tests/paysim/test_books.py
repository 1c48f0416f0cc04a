"""Whatever is asked in whatever order, the books balance and nobody gets more than there is."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest


class Market:
    """Random requests, sensible and not; refused ones must change nothing."""

    def __init__(self, paysim: Any, seed: int) -> None:
        self.paysim, self.draw = paysim, random.Random(seed)
        self.accounts = [paysim.account()["id"] for _ in range(3)]
        self.intents: list[str] = []
        self.transfers: list[str] = []
        self.disputes: list[str] = []

    def pay(self) -> None:
        card = self.draw.choice(["pm_card_visa", "pm_card_bypassPending", "pm_card_chargeDeclined"])
        form = {"amount": self.draw.randint(50, 20_000), "currency": self.draw.choice(["usd", "eur", "jpy"])}
        answer = self.paysim.post("/v1/payment_intents", confirm="true", payment_method=card, **form)
        if answer.status_code == 200:
            self.intents.append(answer.json()["id"])

    def refund(self) -> None:
        if self.intents:
            form = {"payment_intent": self.draw.choice(self.intents), "amount": self.draw.randint(1, 9_000)}
            self.paysim.post("/v1/refunds", **form)

    def transfer(self) -> None:
        form = {"destination": self.draw.choice(self.accounts), "amount": self.draw.randint(1, 6_000)}
        answer = self.paysim.post("/v1/transfers", currency="usd", **form)
        if answer.status_code == 200:
            self.transfers.append(answer.json()["id"])

    def reverse(self) -> None:
        if self.transfers:
            path = f"/v1/transfers/{self.draw.choice(self.transfers)}/reversals"
            self.paysim.post(path, amount=self.draw.randint(1, 6_000))

    def pay_out(self) -> None:
        self.paysim.post("/v1/payouts", currency="usd", amount=self.draw.randint(1, 4_000))

    def dispute(self) -> None:
        if self.intents:
            self.paysim.fault("refund_failure", count=1)
            intent = self.intents.pop(self.draw.randrange(len(self.intents)))
            charge = self.paysim.get(f"/v1/payment_intents/{intent}").json()["latest_charge"]
            if not self.paysim.get(f"/v1/charges/{charge}").json()["refunded"]:
                self.disputes.append(self.paysim.admin("POST", "/disputes", charge=charge)["id"])

    def decide(self) -> None:
        if self.disputes:
            dispute = self.disputes.pop()
            verdict = self.draw.choice(["won", "lost"])
            self.paysim.admin("POST", f"/disputes/{dispute}/close", status=verdict)

    def wait(self) -> None:
        self.paysim.clock.advance(timedelta(hours=self.draw.randint(1, 40)))

    def step(self) -> None:
        moves = [self.pay, self.pay, self.refund, self.transfer, self.reverse, self.pay_out]
        self.draw.choice([*moves, self.dispute, self.decide, self.wait])()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_sequence_keeps_the_books_balanced(paysim: Any, seed: int) -> None:
    market = Market(paysim, seed)
    for n in range(120):
        market.step()
        if n % 20 == 0:
            paysim.books()
    paysim.clock.advance(timedelta(days=10))

    report = paysim.books()
    assert set(report["sum_by_currency"].values()) == {0}
    for row in report["accounts"]:
        if row["account"].endswith(":pending"):
            assert row["amount"] == 0
        if row["account"].split(":")[0] in market.accounts:
            assert row["amount"] >= 0
    for intent in market.intents:
        charge = paysim.get("/v1/charges", payment_intent=intent).json()["data"][0]
        assert 0 <= charge["amount_refunded"] <= charge["amount"]
