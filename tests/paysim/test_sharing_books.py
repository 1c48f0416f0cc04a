"""Whatever is asked of the sharing rail in whatever order, its books balance and no rule is broken."""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta
from typing import Any

import pytest

from infra.payments.errors import ProviderRefused, ProviderUnavailable
from infra.payments.profit_sharing import ProfitSharing
from infra.payments.sharing import Receiver, ReceiverKind, Relation, SharedPayment, ShareTo


class Trade:
    """Random requests, sensible and not; refused ones must change nothing."""

    def __init__(self, rail: ProfitSharing, paysim: Any, seed: int) -> None:
        self.rail, self.paysim, self.draw, self.n = rail, paysim, random.Random(seed), 0
        self.merchant = ""
        self.receivers: list[Receiver] = []
        self.payments: list[SharedPayment] = []
        self.shared: list[tuple[SharedPayment, str, Receiver]] = []
        self.seed = seed

    def number(self) -> str:
        self.n += 1
        return f"s{self.seed}-{self.n}"

    async def open(self) -> None:
        self.merchant = (await self.rail.register_merchant(party_ref=self.number(), name="m")).id
        other = (await self.rail.register_merchant(party_ref=self.number(), name="o")).id
        self.receivers = [
            Receiver(ReceiverKind.MERCHANT, other),
            Receiver(ReceiverKind.INDIVIDUAL, f"person-{self.seed}"),
        ]
        for receiver in self.receivers:
            await self.rail.add_receiver(
                merchant_id=self.merchant, receiver=receiver, relation=Relation.SUPPLIER
            )

    async def pay(self) -> None:
        self.payments.append(
            await self.rail.pay(
                merchant_id=self.merchant,
                trade_no=self.number(),
                amount_minor=self.draw.randint(1, 20_000),
                currency="CNY",
                description="x",
                payer="test_pays",
            )
        )

    async def share(self) -> None:
        payment, number = self.draw.choice(self.payments), self.number()
        to = self.draw.sample(self.receivers, self.draw.randint(1, 2))
        await self.rail.share(
            merchant_id=self.merchant,
            payment_id=payment.id,
            order_no=number,
            receivers=[ShareTo(each, self.draw.randint(1, 4_000)) for each in to],
            finish=self.draw.random() < 0.2,
        )
        self.shared += [(payment, number, each) for each in to]

    async def finish(self) -> None:
        payment = self.draw.choice(self.payments)
        await self.rail.finish(merchant_id=self.merchant, payment_id=payment.id, order_no=self.number())

    async def take_back(self) -> None:
        payment, number, receiver = self.draw.choice(self.shared)
        await self.rail.take_back(
            merchant_id=self.merchant,
            payment_id=payment.id,
            order_no=number,
            return_no=self.number(),
            account=receiver.account,
            amount_minor=self.draw.randint(1, 4_000),
        )

    async def refund(self) -> None:
        await self.rail.refund(
            merchant_id=self.merchant,
            payment_id=self.draw.choice(self.payments).id,
            refund_no=self.number(),
            amount_minor=self.draw.randint(1, 9_000),
        )

    async def fail_something(self) -> None:
        kind = self.draw.choice(["share_failure", "server_error", "share_delay"])
        options = {"execute": self.draw.random() < 0.5} if kind == "server_error" else {}
        self.paysim.fault(kind, **options)

    async def wait(self) -> None:
        days = self.draw.choice([0, 0, 0, 0, 60])
        self.paysim.clock.advance(timedelta(days=days, seconds=self.draw.randint(1, 90)))

    async def step(self) -> None:
        moves = [self.pay, self.share, self.share, self.wait, self.refund, self.finish, self.fail_something]
        if self.shared:
            moves.append(self.take_back)
        with contextlib.suppress(ProviderRefused, ProviderUnavailable):
            await self.draw.choice(moves)()


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_sequence_keeps_the_books_balanced_and_the_cap_kept(paysim: Any, seed: int) -> None:
    rail = ProfitSharing(base=paysim.url, key="sk_test_suite", clock=paysim.clock)
    trade = Trade(rail, paysim, seed)
    await trade.open()
    await trade.pay()
    for n in range(100):
        await trade.step()
        if n % 25 == 0:
            assert paysim.books()["unexplained_frozen"] == []
    paysim.admin("DELETE", "/faults")
    paysim.clock.advance(timedelta(days=400))

    report = paysim.books()
    held = {
        row["account"]: row["amount"] for row in report["accounts"] if row["account"].startswith("share:")
    }
    assert all(amount >= 0 for amount in held.values())
    # Everything was shared, finished or given to the merchant after 180 days.
    assert (
        held.get(f"share:{trade.merchant}:frozen", 0) == held.get(f"share:{trade.merchant}:sharing", 0) == 0
    )
    for payment in trade.payments:
        left = await rail.left_to_share(merchant_id=trade.merchant, payment_id=payment.id)
        assert left.unsplit_minor == 0
        assert left.outward_used_minor <= payment.amount_minor * 3 // 10
    await rail.close()
