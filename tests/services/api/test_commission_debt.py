"""A brand pays the commission of its own checkout's sales, at a real payment provider: once, whatever happens.

The worked order delivered and its return window over: 13.50 is due (tests/factories/own_checkout.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import SharedClock
from core.money import Money
from infra.db.session import Database
from infra.payments.gateway import Charge
from infra.payments.stripe_gateway import StripeGateway
from marketplace.orders.own_checkout.models import EventKind
from services.simulate.invariants import violations
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import service as settlement
from supply.settlement.at_source import covering, paying
from supply.settlement.at_source.errors import DebtPaymentTooLarge, NoDebt
from supply.settlement.parties import party_account, provider_account
from tests.factories.own_checkout import (
    OwnShop,
    clicked,
    happened,
    own_shop,
    paid,
    told_and_done,
    with_events,
    worked,
)
from tests.fixtures.http import Served, serving
from tests.paysim.conftest import SECRET_KEY, WEBHOOK_SECRET, Paysim, Receiver

PAY = """mutation($input: CommissionDebtPayInput!) { commissionDebtPay(input: $input) {
  payment { id amount { amount } status intentId payUrl } userErrors { code } } }"""
DEBT = """{ commissionDebt(currencyCode: "CNY") { owed { amount } commission { amount } later { amount } since } }"""


@dataclass(frozen=True, slots=True)
class Owing:
    served: Served
    shop: OwnShop
    provider: Paysim
    receiver: Receiver
    db: Database
    gateway: StripeGateway

    @property
    def clock(self) -> SharedClock:
        return self.provider.clock

    async def ask_to_pay(self, amount: str | None = None) -> dict[str, Any]:
        given: dict[str, Any] = {"currencyCode": "CNY"}
        if amount is not None:
            given["amount"] = {"amount": amount, "currencyCode": "CNY"}
        answer = await self.served.brand(PAY, {"input": given}, token=self.shop.merchant_token)
        found: dict[str, Any] = answer["data"]["commissionDebtPay"]
        return found

    async def debt(self) -> tuple[str, str, str]:
        answer = await self.served.brand(DEBT, token=self.shop.merchant_token)
        found = answer["data"]["commissionDebt"]
        return found["owed"]["amount"], found["commission"]["amount"], found["later"]["amount"]

    def pay(self, intent: str) -> None:
        self.provider.ok(f"/v1/payment_intents/{intent}/confirm", payment_method="pm_card_visa")

    async def notices(self, awaited: str = "payment_intent.succeeded") -> None:
        """Every notice of the provider that came, twice."""
        self.receiver.wait(awaited)
        for signature, raw in [*self.receiver.deliveries, *self.receiver.deliveries]:
            headers = {"content-type": "application/json", "stripe-signature": signature}
            assert (
                await self.served.api.post("/webhooks/stripe", content=raw, headers=headers)
            ).status_code == 200
        self.receiver.deliveries.clear()
        await self.served.work()

    async def paid_all(self) -> str:
        """Everything that is due, on the provider's page; the intent."""
        intent: str = (await self.ask_to_pay())["payment"]["intentId"]
        self.pay(intent)
        await self.notices()
        return intent

    async def taken_back(self, intent: str, **options: Any) -> str:
        """The brand's bank takes the payment back: the dispute."""
        opened = self.provider.admin("POST", "/disputes", charge=intent, **options)
        await self.notices("charge.dispute.funds_withdrawn")
        return str(opened["id"])

    async def decided(self, dispute: str, status: str, **options: Any) -> None:
        self.provider.admin("POST", f"/disputes/{dispute}/close", status=status, **options)
        await self.notices("charge.dispute.closed")

    async def released(self) -> int:
        """How many lines: what came is counted, and what came for is released."""
        await covering.cover_due(self.db, clock=self.clock)
        return await settlement.release_due(self.db, clock=self.clock)

    async def trial(self) -> dict[Code, int]:
        async with self.db.reading(SYSTEM) as session:
            assert await violations(session) == []
            return {
                Code(line.code): line.debit_minor
                for line in await ledger.trial_balance(session)
                if line.debit_minor
            }


@pytest.fixture
async def owing(provider: Paysim, receiver: Receiver, db: Database) -> AsyncIterator[Owing]:
    provider.owes_nothing()
    receiver.deliveries.clear()
    clock = provider.clock
    gateway = StripeGateway(secret_key=SECRET_KEY, webhook_secret=WEBHOOK_SECRET, api_base=provider.url)
    async with serving(db, clock, payments=gateway) as served:
        shop = await own_shop(db, clock)
        token = await clicked(db, clock, shop)
        arrived = happened(EventKind.DELIVERED, clock.now())
        await told_and_done(db, clock, shop, with_events(worked(shop, clock, token), paid(clock), arrived))
        case = Owing(served, shop, provider, receiver, db, gateway)
        assert await case.debt() == ("0.00", "0.00", "13.50")
        assert (await case.ask_to_pay())["userErrors"] == [{"code": "NO_DEBT"}]
        clock.advance(timedelta(days=15))
        assert await covering.claim_due(db, clock=clock) == 1
        yield case
    await gateway.close()
    provider.books()


async def test_what_is_due_is_paid_on_the_providers_page_and_then_the_payees_are(owing: Owing) -> None:
    assert await owing.debt() == ("13.50", "13.50", "0.00")
    asked = await owing.ask_to_pay()
    assert (asked["payment"]["amount"]["amount"], asked["payment"]["status"]) == ("13.50", "OPEN")
    assert asked["payment"]["payUrl"].startswith(owing.provider.url)
    assert (await owing.ask_to_pay())["payment"] == asked["payment"]

    owing.pay(asked["payment"]["intentId"])
    await owing.notices()

    assert await owing.debt() == ("0.00", "0.00", "0.00")
    assert await owing.trial() == {
        Code.PROVIDER_PENDING: 1_350, Code.PENDING: -1_283, Code.FEE_DEFERRED: -67,
    }  # fmt: skip
    assert await covering.cover_due(owing.db, clock=owing.clock) == 1
    assert await settlement.release_due(owing.db, clock=owing.clock) == 1
    assert await owing.trial() == {
        Code.PROVIDER_PENDING: 1_350, Code.AVAILABLE: -1_283, Code.FEE_REVENUE: -67,
    }  # fmt: skip
    # The provider's fee and when the money is available are those of any charge.
    await settlement.collect_fees(owing.db, payments=owing.gateway, clock=owing.clock)
    assert Code.PROVIDER_FEE in await owing.trial()


async def test_a_part_is_paid_for_what_was_due_first_and_a_lost_notice_is_made_up_for(owing: Owing) -> None:
    refused = await owing.ask_to_pay("13.51")
    assert refused["userErrors"] == [{"code": "DEBT_PAYMENT_TOO_LARGE"}]
    first = await owing.ask_to_pay()
    other = await owing.ask_to_pay("13.49")
    assert other["payment"]["id"] != first["payment"]["id"]
    canceled = owing.provider.get(f"/v1/payment_intents/{first['payment']['intentId']}").json()
    assert canceled["status"] == "canceled"

    owing.pay(other["payment"]["intentId"])
    owing.clock.advance(timedelta(minutes=11))
    for news in (1, 0):
        found = await paying.sweep_debt_payments(owing.db, payments=owing.gateway, clock=owing.clock)
        assert found == news

    # A fen short: nobody is paid.
    assert await covering.cover_due(owing.db, clock=owing.clock) == 1
    assert await settlement.release_due(owing.db, clock=owing.clock) == 0
    assert await owing.debt() == ("0.01", "0.01", "0.00")
    assert (await owing.trial())[Code.PENDING] == -1_283


async def test_paid_while_another_amount_was_asked_for_it_counts_once(owing: Owing) -> None:
    first = await owing.ask_to_pay()
    owing.pay(first["payment"]["intentId"])

    again = await owing.ask_to_pay("5.00")

    # The provider would not call a paid one off: it was booked instead, and nothing is due any more.
    assert again["userErrors"] == [{"code": "NO_DEBT"}]
    await owing.notices()
    assert (await owing.trial())[Code.PROVIDER_PENDING] == 1_350


async def test_netting_and_a_payment_at_once_collect_nothing_twice(owing: Owing) -> None:
    """The brand has 10.00 available when it pays 13.50: whoever is first, 10.00 of the two is its own again."""
    brand = str(owing.shop.merchant.brand_id)
    earned = Journal(
        "earned", "capture",
        (
            debit(provider_account(Code.PROVIDER_PENDING, "stripe", "CNY"), 1_000),
            credit(party_account(Code.AVAILABLE, brand, "CNY"), 1_000),
        ),
        owing.clock.now(),
    )  # fmt: skip
    found = await paying.pay_debt(
        owing.db, owing.shop.merchant.brand_id, "CNY", payments=owing.gateway, clock=owing.clock
    )
    assert found.intent_id is not None
    async with owing.db.unit_of_work(SYSTEM) as session:
        await posting.post(session, earned, now=owing.clock.now())
    charge = Charge("ch_x", 1_350, 0, "CNY", "succeeded", found.intent_id, False, None, owing.clock.now())

    async def book() -> None:
        async with owing.db.unit_of_work(SYSTEM) as session:
            assert found.intent_id is not None
            await paying.book_payment(session, found.intent_id, charge, now=owing.clock.now())

    async def net(cycle: str) -> None:
        async with owing.db.unit_of_work(SYSTEM) as session:
            parties = [(brand, "CNY", owing.shop.merchant.brand_id)]
            await settlement.net_receivables(session, cycle, parties, now=owing.clock.now())

    await asyncio.gather(
        book(), net("a"), book(), net("b"), book(), covering.cover_due(owing.db, clock=owing.clock)
    )
    await covering.cover_due(owing.db, clock=owing.clock)
    await settlement.release_due(owing.db, clock=owing.clock)

    assert await owing.debt() == ("0.00", "0.00", "0.00")
    async with owing.db.reading(SYSTEM) as session:
        available = await session.scalar(_AVAILABLE, {"owner": f"party:{brand}"})
        trial = {
            line.code: line.debit_minor for line in await ledger.trial_balance(session) if line.debit_minor
        }
    assert available == 1_000
    assert trial == {Code.PROVIDER_PENDING: 2_350, Code.AVAILABLE: -2_283, Code.FEE_REVENUE: -67}


async def test_twelve_ask_to_pay_at_once_and_one_payment_is_open(owing: Owing) -> None:
    asked = await asyncio.gather(*(owing.ask_to_pay() for _ in range(12)))

    assert len({each["payment"]["id"] for each in asked}) == 1
    assert len({each["payment"]["intentId"] for each in asked}) == 1
    brand = owing.shop.merchant.brand_id
    for amount, error in ((1_351, DebtPaymentTooLarge), (None, NoDebt)):
        currency = "CNY" if amount else "USD"
        money = Money(amount, currency) if amount else None
        with pytest.raises(error):
            await paying.pay_debt(
                owing.db, brand, currency, amount=money, payments=owing.gateway, clock=owing.clock
            )


async def test_a_payment_that_the_bank_takes_back_is_owed_again_with_the_providers_fee(owing: Owing) -> None:
    """13.50 paid, taken back with a fee of 15.00: 28.50 owed. Nobody waits for a payment that was not."""
    dispute = await owing.taken_back(await owing.paid_all())

    assert await owing.debt() == ("28.50", "13.50", "0.00")
    assert await owing.released() == 0
    assert await owing.trial() == {
        Code.RECEIVABLE: 2_850, Code.PROVIDER_PENDING: 1_350, Code.PROVIDER_AVAILABLE: -2_850,
        Code.PENDING: -1_283, Code.FEE_DEFERRED: -67,
    }  # fmt: skip

    # Lost, it is owed as it was; paid again, the payees have their own.
    await owing.decided(dispute, "lost")
    assert await owing.debt() == ("28.50", "13.50", "0.00")
    again = await owing.ask_to_pay()
    assert again["payment"]["amount"]["amount"] == "28.50"
    owing.pay(again["payment"]["intentId"])
    owing.clock.advance(timedelta(minutes=11))
    assert await paying.sweep_debt_payments(owing.db, payments=owing.gateway, clock=owing.clock) == 1
    assert await owing.debt() == ("0.00", "0.00", "0.00")
    assert await owing.released() == 1
    assert await owing.trial() == {
        Code.PROVIDER_PENDING: 4_200, Code.PROVIDER_AVAILABLE: -2_850, Code.AVAILABLE: -1_283, Code.FEE_REVENUE: -67,
    }  # fmt: skip


@pytest.mark.parametrize(("fee_back", "owed"), [(False, "15.00"), (True, "0.00")])
async def test_a_payment_that_the_bank_gives_back_counts_again(
    owing: Owing, fee_back: bool, owed: str
) -> None:
    dispute = await owing.taken_back(await owing.paid_all())
    assert await owing.released() == 0

    await owing.decided(dispute, "won", fee_back=fee_back)

    # The payees do not wait for a fee that the brand owes.
    assert await owing.debt() == (owed, "0.00", "0.00")
    assert await owing.released() == 1


async def test_what_was_paid_twice_while_the_bank_had_it_is_the_brands_to_take(owing: Owing) -> None:
    intent = await owing.paid_all()
    assert await owing.released() == 1
    dispute = await owing.taken_back(intent)
    # Released is released: the payees keep it, and the brand owes without anybody waiting.
    assert await owing.debt() == ("28.50", "0.00", "0.00")
    assert (await owing.trial())[Code.AVAILABLE] == -1_283

    await owing.paid_all()
    await owing.decided(dispute, "lost")
    await owing.decided(dispute, "won")

    assert await owing.debt() == ("0.00", "0.00", "0.00")
    assert (await owing.trial())[Code.AVAILABLE] == -(1_283 + 1_350)


async def test_a_part_taken_back_is_a_part_owed_and_an_inquiry_moves_nothing(owing: Owing) -> None:
    intent = await owing.paid_all()
    inquiry = owing.provider.admin("POST", "/disputes", charge=intent, amount=400, inquiry=True)
    await owing.notices("charge.dispute.created")
    assert await owing.debt() == ("0.00", "0.00", "0.00")

    owing.provider.admin("POST", f"/disputes/{inquiry['id']}/escalate")
    await owing.notices("charge.dispute.funds_withdrawn")

    # 4.00 and the fee; of the line 9.50 came, and it is released when all of it did.
    assert await owing.debt() == ("19.00", "4.00", "0.00")
    assert await owing.released() == 0


async def test_a_payment_refunded_at_the_provider_is_owed_again_and_a_refund_that_fails_counts_again(
    owing: Owing,
) -> None:
    """Of 13.50, 4.00 and 9.50 go back at somebody's desk, without a fee; the bank sends the 4.00 back to us."""
    intent = await owing.paid_all()
    first = owing.provider.ok("/v1/refunds", payment_intent=intent, amount=400)
    await owing.notices("refund.created")
    assert await owing.debt() == ("4.00", "4.00", "0.00")
    owing.provider.ok("/v1/refunds", payment_intent=intent, amount=950)
    await owing.notices("refund.created")

    assert await owing.debt() == ("13.50", "13.50", "0.00")
    assert await owing.released() == 0

    owing.provider.admin("POST", f"/refunds/{first['id']}/fail")
    await owing.notices("refund.failed")
    assert await owing.debt() == ("9.50", "9.50", "0.00")
    assert await owing.trial() == {
        Code.RECEIVABLE: 950, Code.PROVIDER_PENDING: 1_350, Code.PROVIDER_AVAILABLE: -950,
        Code.PENDING: -1_283, Code.FEE_DEFERRED: -67,
    }  # fmt: skip

    await owing.paid_all()
    assert await owing.debt() == ("0.00", "0.00", "0.00")
    assert await owing.released() == 1


_AVAILABLE = text("SELECT balance_minor FROM ledger_balances_now WHERE code = 2010 AND owner = :owner")
