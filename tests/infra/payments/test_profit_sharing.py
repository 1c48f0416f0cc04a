"""The sharing rail's contract, over HTTP against the real process: caps, freezes, late results, no clawback."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from core.clock import FixedClock
from infra.payments.errors import (
    IdempotencyMismatch,
    PaymentDeclined,
    ProviderRefused,
    ProviderUnavailable,
    WebhookRejected,
)
from infra.payments.profit_sharing import ProfitSharing
from infra.payments.sharing import (
    Receiver,
    ReceiverKind,
    Relation,
    SharedPayment,
    ShareResult,
    ShareState,
    ShareTo,
    SharingRail,
)

KEY = "sk_test_suite"
PERSON = Receiver(ReceiverKind.INDIVIDUAL, "openid-li")


@pytest.fixture
async def rail(paysim: Any) -> AsyncIterator[ProfitSharing]:
    rail = ProfitSharing(base=paysim.url, key=KEY, clock=paysim.clock)
    yield rail
    await rail.close()


class Shop:
    """A merchant with a supplier and an individual promoter as receivers."""

    def __init__(self, rail: SharingRail, paysim: Any, merchant: str, supplier: str) -> None:
        self.rail, self.paysim, self.merchant = rail, paysim, merchant
        self.supplier = Receiver(ReceiverKind.MERCHANT, supplier)

    async def paid(self, amount_minor: int = 10_000) -> SharedPayment:
        return await self.rail.pay(
            merchant_id=self.merchant,
            trade_no=uuid.uuid4().hex,
            amount_minor=amount_minor,
            currency="CNY",
            description="Tea",
            payer="test_pays",
        )

    async def share(self, payment: SharedPayment, *to: ShareTo, no: str = "", finish: bool = False) -> Any:
        return await self.rail.share(
            merchant_id=self.merchant,
            payment_id=payment.id,
            order_no=no or uuid.uuid4().hex,
            receivers=to,
            finish=finish,
        )

    async def result(self, payment: SharedPayment, order_no: str) -> Any:
        """What became of it, once paysim's clock has moved on."""
        self.paysim.clock.advance(timedelta(seconds=31))
        return await self.rail.retrieve_share(
            merchant_id=self.merchant, payment_id=payment.id, order_no=order_no
        )

    async def left(self, payment: SharedPayment) -> Any:
        return await self.rail.left_to_share(merchant_id=self.merchant, payment_id=payment.id)

    def balance(self, account: str) -> int:
        rows = self.paysim.books()["accounts"]
        return sum(row["amount"] for row in rows if row["account"] == account)


@pytest.fixture
async def shop(rail: ProfitSharing, paysim: Any) -> Shop:
    ref = uuid.uuid4().hex
    merchant = await rail.register_merchant(party_ref=f"brd_{ref}", name="茶店")
    supplier = await rail.register_merchant(party_ref=f"sup_{ref}", name="茶园")
    shop = Shop(rail, paysim, merchant.id, supplier.id)
    await rail.add_receiver(merchant_id=merchant.id, receiver=shop.supplier, relation=Relation.SUPPLIER)
    await rail.add_receiver(merchant_id=merchant.id, receiver=PERSON, relation=Relation.PROMOTER, name="李")
    return shop


async def refused(call: Any) -> ProviderRefused:
    with pytest.raises(ProviderRefused) as refusal:
        await call
    return refusal.value


async def test_a_payment_is_frozen_shared_later_and_the_rest_is_the_merchants(shop: Shop) -> None:
    payment = await shop.paid(10_000)
    # 0.6 % of 100.00 is 0.60; 30 % of it may leave.
    left = await shop.left(payment)
    assert (payment.state, payment.fee_minor) == ("SUCCESS", 60)
    assert (left.unsplit_minor, left.outward_allowed_minor) == (9_940, 3_000)

    accepted = await shop.share(
        payment, ShareTo(shop.supplier, 2_000), ShareTo(PERSON, 1_000), no="first", finish=True
    )
    assert (accepted.state, {line.result for line in accepted.lines}) == (
        ShareState.PROCESSING,
        {ShareResult.PENDING},
    )
    done = await shop.result(payment, "first")
    assert (done.state, [line.result for line in done.lines]) == (
        ShareState.FINISHED,
        [ShareResult.SUCCESS] * 2,
    )
    assert shop.balance(f"share:{shop.supplier.account}:available") == 2_000
    assert shop.balance(f"share:{shop.merchant}:available") == 6_940
    assert shop.balance(f"share:{shop.merchant}:frozen") == 0
    over = await refused(shop.share(payment, ShareTo(shop.supplier, 1)))
    assert over.provider_code == "ALREADY_UNFROZEN"


async def test_more_than_the_cap_never_leaves_in_one_request_or_several(shop: Shop) -> None:
    payment = await shop.paid(10_001)
    # 30 % of 10,001 is 3,000.3: rounded down.
    assert (await refused(shop.share(payment, ShareTo(shop.supplier, 3_001)))).provider_code == (
        "OUTWARD_CAP_EXCEEDED"
    )
    await shop.share(payment, ShareTo(shop.supplier, 2_500))
    second = await refused(shop.share(payment, ShareTo(PERSON, 501)))
    assert second.provider_code == "OUTWARD_CAP_EXCEEDED"
    await shop.share(payment, ShareTo(PERSON, 500))
    shop.paysim.admin("POST", f"/sharing/merchants/{shop.merchant}", max_outward_ppm=500_000)
    assert (await shop.rail.retrieve_merchant(shop.merchant)).max_outward_ppm == 500_000
    assert (await shop.left(payment)).outward_allowed_minor == 5_000


async def test_the_same_number_is_the_same_request_and_another_body_is_refused(shop: Shop) -> None:
    payment = await shop.paid()
    calls = (shop.share(payment, ShareTo(shop.supplier, 700), no="same") for _ in range(12))
    answers = await asyncio.gather(*calls)
    assert len({answer.lines[0].detail_id for answer in answers}) == 1
    with pytest.raises(IdempotencyMismatch):
        await shop.share(payment, ShareTo(shop.supplier, 701), no="same")
    assert (await shop.left(payment)).outward_used_minor == 700


async def test_fifty_receivers_are_taken_and_fifty_one_are_not(shop: Shop) -> None:
    people = [Receiver(ReceiverKind.INDIVIDUAL, f"openid-{n}") for n in range(51)]
    for person in people:
        await shop.rail.add_receiver(merchant_id=shop.merchant, receiver=person, relation=Relation.PROMOTER)
    payment = await shop.paid()
    too_many = await refused(shop.share(payment, *(ShareTo(person, 10) for person in people)))
    assert too_many.provider_code == "TOO_MANY_RECEIVERS"
    await shop.share(payment, *(ShareTo(person, 10) for person in people[:50]), no="fifty")
    done = await shop.result(payment, "fifty")
    assert sum(line.amount_minor for line in done.lines if line.result is ShareResult.SUCCESS) == 500


async def test_only_receivers_named_beforehand_are_paid(shop: Shop) -> None:
    payment = await shop.paid()
    stranger = Receiver(ReceiverKind.INDIVIDUAL, "openid-stranger")
    assert (await refused(shop.share(payment, ShareTo(stranger, 10)))).provider_code == "RECEIVER_NOT_ADDED"
    twice = (ShareTo(PERSON, 10), ShareTo(PERSON, 20))
    assert (await refused(shop.share(payment, *twice))).provider_code == "RECEIVER_TWICE"
    absent = Receiver(ReceiverKind.MERCHANT, "mch_absent")
    adding = shop.rail.add_receiver(merchant_id=shop.merchant, receiver=absent, relation=Relation.SUPPLIER)
    assert (await refused(adding)).provider_code == "RECEIVER_NOT_FOUND"


async def test_a_receiver_that_cannot_be_paid_leaves_its_amount_frozen(shop: Shop, paysim: Any) -> None:
    payment = await shop.paid()
    paysim.fault("share_failure", match={"account": PERSON.account}, reason="REAL_NAME_NEEDED")
    await shop.share(payment, ShareTo(shop.supplier, 1_000), ShareTo(PERSON, 500), no="half")
    done = await shop.result(payment, "half")
    assert [(line.result, line.failure) for line in done.lines] == [
        (ShareResult.SUCCESS, None),
        (ShareResult.CLOSED, "REAL_NAME_NEEDED"),
    ]
    left = await shop.left(payment)
    assert (left.unsplit_minor, left.outward_used_minor) == (8_940, 1_000)


async def test_after_180_days_the_rest_goes_to_the_merchant_by_itself(shop: Shop, paysim: Any) -> None:
    payment = await shop.paid()
    paysim.clock.advance(timedelta(days=180, seconds=1))
    left = await shop.left(payment)
    assert left.unsplit_minor == 0
    assert left.unfrozen_at is not None
    assert shop.balance(f"share:{shop.merchant}:available") == 9_940
    late = await refused(shop.share(payment, ShareTo(shop.supplier, 1)))
    assert late.provider_code == "ALREADY_UNFROZEN"


async def test_businesses_can_give_back_within_180_days_and_individuals_never(
    shop: Shop, paysim: Any
) -> None:
    payment = await shop.paid()
    await shop.share(payment, ShareTo(shop.supplier, 1_000), ShareTo(PERSON, 500), no="O")
    await shop.result(payment, "O")

    def back(account: str, amount: int, no: str) -> Any:
        return shop.rail.take_back(
            merchant_id=shop.merchant,
            payment_id=payment.id,
            order_no="O",
            return_no=no,
            account=account,
            amount_minor=amount,
        )

    assert (await refused(back(PERSON.account, 1, "r0"))).provider_code == "INDIVIDUAL_CANNOT_RETURN"
    assert (await back(shop.supplier.account, 400, "r1")).state == "PROCESSING"
    assert (await back(shop.supplier.account, 400, "r1")).amount_minor == 400
    assert (await refused(back(shop.supplier.account, 601, "r2"))).provider_code == "RETURN_EXCEEDS_SHARE"
    paysim.clock.advance(timedelta(seconds=31))
    found = await shop.rail.retrieve_return(merchant_id=shop.merchant, return_no="r1")
    assert found is not None
    assert found.state == "SUCCESS"
    assert shop.balance(f"share:{shop.supplier.account}:available") == 600
    paysim.clock.advance(timedelta(days=181))
    assert (await refused(back(shop.supplier.account, 1, "r3"))).provider_code == "RETURN_WINDOW_OVER"
    assert await shop.rail.retrieve_return(merchant_id=shop.merchant, return_no="r9") is None


async def test_refunds_come_out_of_the_frozen_money_and_the_fee_comes_back_in_part(
    shop: Shop, paysim: Any
) -> None:
    payment = await shop.paid(10_000)
    await shop.share(payment, ShareTo(shop.supplier, 3_000), no="O", finish=True)
    await shop.result(payment, "O")

    def refund(amount: int, no: str) -> Any:
        return shop.rail.refund(
            merchant_id=shop.merchant, payment_id=payment.id, refund_no=no, amount_minor=amount
        )

    # The merchant has 10,000 - 60 - 3,000 = 6,940; of 6,900 refunded it bears 6,900 - 41 of the fee.
    first = await refund(6_900, "f1")
    assert (first.fee_back_minor, first.state) == (41, "PROCESSING")
    assert shop.balance(f"share:{shop.merchant}:available") == 81
    short = await refused(refund(3_100, "f2"))
    assert short.provider_code == "NOT_ENOUGH_FUNDS"
    assert (await refused(refund(3_101, "f3"))).provider_code == "REFUND_EXCEEDS_PAYMENT"
    paysim.clock.advance(timedelta(seconds=31))
    arrived = await shop.rail.retrieve_refund(merchant_id=shop.merchant, refund_no="f1")
    assert arrived is not None
    assert arrived.state == "SUCCESS"


async def test_money_of_several_merchants_is_not_pooled_with_the_platform(
    shop: Shop, rail: ProfitSharing
) -> None:
    ours = await rail.platform_merchant()
    assert ours.id == (await rail.platform_merchant()).id
    pooled = rail.pay(
        merchant_id=ours.id,
        trade_no="pool",
        amount_minor=100,
        currency="CNY",
        description="all",
        payer="test_pays",
    )
    assert (await refused(pooled)).provider_code == "POOLING_FORBIDDEN"
    fee = Receiver(ReceiverKind.MERCHANT, ours.id)
    await rail.add_receiver(merchant_id=shop.merchant, receiver=fee, relation=Relation.PLATFORM)
    payment = await shop.paid()
    await shop.share(payment, ShareTo(fee, 450), no="fee")
    assert (await shop.result(payment, "fee")).lines[0].result is ShareResult.SUCCESS


async def test_other_currencies_payers_and_numbers_are_refused_by_name(shop: Shop) -> None:
    terms: dict[str, Any] = {
        "merchant_id": shop.merchant,
        "trade_no": uuid.uuid4().hex,
        "amount_minor": 100,
        "currency": "CNY",
        "description": "x",
    }
    dollars = await refused(shop.rail.pay(**{**terms, "currency": "USD"}))
    assert dollars.provider_code == "CURRENCY_NOT_SUPPORTED"
    with pytest.raises(PaymentDeclined):
        await shop.rail.pay(**terms, payer="test_declines")
    for wrong in ({"amount_minor": 0}, {"amount_minor": -1}, {"trade_no": "x y"}, {"description": ""}):
        assert (await refused(shop.rail.pay(**{**terms, **wrong}))).provider_code == "PARAM_INVALID"
    assert (
        await refused(shop.rail.retrieve_payment(merchant_id=shop.merchant, trade_no="absent"))
    ).http_status == 404
    waiting = await shop.rail.pay(**terms)
    assert waiting.state == "NOTPAY"
    assert (await refused(shop.share(waiting, ShareTo(PERSON, 1)))).provider_code == "NOT_SHARABLE"


async def test_an_answer_that_was_lost_is_asked_for_and_a_missing_request_is_known_to_be_missing(
    shop: Shop, paysim: Any
) -> None:
    payment = await shop.paid()
    paysim.fault("drop_response", match={"operation": "shares.create"})
    with pytest.raises(ProviderUnavailable) as unknown:
        await shop.share(payment, ShareTo(shop.supplier, 700), no="lost")
    assert unknown.value.outcome_unknown
    found = await shop.rail.retrieve_share(merchant_id=shop.merchant, payment_id=payment.id, order_no="lost")
    assert found is not None
    assert found.state is ShareState.PROCESSING

    paysim.fault("server_error", match={"key": "never"})
    with pytest.raises(ProviderUnavailable):
        await shop.share(payment, ShareTo(shop.supplier, 700), no="never")
    missing = await shop.rail.retrieve_share(
        merchant_id=shop.merchant, payment_id=payment.id, order_no="never"
    )
    assert missing is None
    paysim.fault("rate_limit", match={"operation": "shares.create"})
    with pytest.raises(ProviderUnavailable) as busy:
        await shop.share(payment, ShareTo(shop.supplier, 700), no="busy")
    assert not busy.value.outcome_unknown


async def test_the_daily_bill_lists_every_movement_with_our_numbers(shop: Shop, paysim: Any) -> None:
    day = paysim.clock.now().astimezone(paysim.clock.now().tzinfo).date() + timedelta(days=3)
    paysim.clock.advance(timedelta(days=3))
    payment = await shop.paid(10_000)
    await shop.share(payment, ShareTo(shop.supplier, 2_000), ShareTo(PERSON, 900), no="B1", finish=True)
    await shop.result(payment, "B1")
    assert (await refused(shop.rail.bill(day))).provider_code == "BILL_NOT_READY"
    paysim.clock.advance(timedelta(days=2))
    rows = [row for row in await shop.rail.bill(day) if row.payment_id == payment.id]
    assert [(row.kind, row.number, row.amount_minor) for row in rows] == [
        ("PAYMENT", payment.trade_no, 10_000),
        ("FEE", payment.trade_no, 60),
        ("SHARE", "B1", 2_000),
        ("SHARE", "B1", 900),
        ("UNFREEZE", "B1", 7_040),
    ]
    assert [row.receiver for row in rows][2:4] == [shop.supplier, PERSON]


async def test_notices_are_signed_and_only_ours_are_believed(
    shop: Shop, rail: ProfitSharing, paysim: Any, receiver: Any
) -> None:
    payment = await rail.pay(
        merchant_id=shop.merchant,
        trade_no=uuid.uuid4().hex,
        amount_minor=5_000,
        currency="CNY",
        description="Tea",
        notify_url=receiver.url,
        payer="test_pays",
    )
    await shop.share(payment, ShareTo(PERSON, 100), no="noted")
    await shop.result(payment, "noted")
    receiver.wait("SHARING.FINISHED")
    headers, raw = next(found for found in receiver.whole if b"SHARING.FINISHED" in found[1])

    notice = rail.verify_notice(raw, headers, clock=paysim.clock)
    assert (notice.type, notice.payment_id, notice.number) == ("SHARING.FINISHED", payment.id, "noted")
    late = FixedClock(paysim.clock.now() + timedelta(seconds=301))
    other = ProfitSharing(base=paysim.url, key="another", clock=paysim.clock)
    for rail_, body, clock in (
        (rail, raw.replace(b"noted", b"other"), paysim.clock),
        (rail, raw, late),
        (other, raw, paysim.clock),
    ):
        with pytest.raises(WebhookRejected):
            rail_.verify_notice(body, headers, clock=clock)
    with pytest.raises(WebhookRejected):
        rail.verify_notice(raw, {}, clock=paysim.clock)
    await other.close()


async def test_a_wrong_key_an_old_stamp_and_a_stranger_get_nothing(rail: ProfitSharing, paysim: Any) -> None:
    for key, clock in (
        ("another", paysim.clock),
        (KEY, FixedClock(paysim.clock.now() - timedelta(seconds=301))),
    ):
        other = ProfitSharing(base=paysim.url, key=key, clock=clock)
        assert (await refused(other.platform_merchant())).http_status == 401
        await other.close()
    assert paysim.get("/sharing/v1/platform", auth="").status_code == 401


async def test_the_pay_page_takes_the_payment_of_whoever_has_the_link(
    shop: Shop, rail: ProfitSharing
) -> None:
    terms: dict[str, Any] = {
        "merchant_id": shop.merchant,
        "trade_no": uuid.uuid4().hex,
        "amount_minor": 5_000,
        "currency": "CNY",
        "description": "Tea <b>",
    }
    page = (await rail.pay(**terms)).pay_url
    token = page.partition("token=")[2]
    async with httpx.AsyncClient(trust_env=False) as browser:
        shown = await browser.get(page)
        assert (shown.status_code, "CN¥50.00" in shown.text, "Tea &lt;b&gt;" in shown.text) == (
            200,
            True,
            True,
        )
        forged = page.replace(token, "x")
        assert (await browser.post(forged, data={"action": "pay"})).status_code == 404
        assert (await rail.pay(**terms)).state == "NOTPAY"
        assert (await browser.post(page, data={"action": "pay", "token": token})).status_code == 200
    assert (await rail.pay(**terms)).state == "SUCCESS"


async def test_kill_minus_nine_loses_no_request_that_was_accepted(shop: Shop, paysim: Any) -> None:
    payment = await shop.paid()
    await shop.share(payment, ShareTo(shop.supplier, 1_000), no="kept")
    paysim.kill()
    paysim.start()
    assert (await shop.result(payment, "kept")).lines[0].result is ShareResult.SUCCESS
    assert shop.balance(f"share:{shop.supplier.account}:available") == 1_000


async def test_what_a_rail_can_do_is_said_before_anything_is_promised(rail: ProfitSharing) -> None:
    can = rail.capabilities()
    assert (can.pools_funds, can.claws_back_from_individuals, can.claws_back_from_businesses) == (
        False,
        False,
        True,
    )
    assert (can.max_receivers, can.max_outward_ppm, can.freeze_days) == (50, 300_000, 180)
    assert can.asynchronous_transfers
    assert replace(can, max_outward_ppm=None) != can
