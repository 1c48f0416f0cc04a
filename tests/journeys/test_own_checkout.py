"""A sale in a brand's own shop on the real stack: click at the edge, order told, delivered, debt paid, promoter paid.

On paper (amounts in fen, 13 % tax inside the price)::

    2 × 113.00                                   goods   22,600   of it tax 2,600, so net 20,000
    shipping                                              1,000
                                  the brand is paid      23,600
    commission 10 % of the net                            2,000
      platform 5 % of it                                    100
      promoter 20 % of the other 95 %                       380
      promoter's brand the rest                           1,520

One of the two comes back: half of the commission goes (50 / 190 / 760). The brand owes 1,000 when a week is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest

from infra.suppliers.signing import headers_of
from services.demo import accounts
from services.demo.http_clients import Browser, Edge
from tests.journeys.test_click_to_payout import (
    PAY_OUT,
    PAYOUTS,
    Party,
    World,
    _mutation,
    a_cream_for_113_yuan,
    a_link,
    a_promoter,
    agreed,
    available,
    balance,
    payable,
    signed_up,
    stack,
    world,
)

__all__ = ["stack", "world"]
pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

STOREFRONT = _mutation("storefrontCreate", "StorefrontCreateInput", "storefront { id }")
SECRET = _mutation("signingSecretCreate", "SigningSecretCreateInput", "secret")
PAY_DEBT = _mutation(
    "commissionDebtPay",
    "CommissionDebtPayInput",
    "payment { intentId clientSecret publishableKey }",
)
DEBT = 'query D { commissionDebt(currencyCode: "CNY") { owed { amount } commission { amount } later { amount } } }'


async def test_from_the_click_to_the_payout_by_way_of_the_brands_own_shop(world: World) -> None:
    merchant = await signed_up(world, "BRAND", "山茶 Camellia", "owner@camellia.example.com")
    promoter = await signed_up(world, "BRAND", "圈子 Circle", "owner@circle.example.com")
    operator = await accounts.operator(world.db, email="ops@lianyu.example.com", clock=world.platform.clock)
    _, product = await a_cream_for_113_yuan(merchant)
    given = {"name": "shop", "channel": "WEB", "currency": "CNY", "country": "CN"}
    storefront = (await merchant.api.mutate(STOREFRONT, input=given))["storefront"]["id"]
    secret = (await merchant.api.mutate(SECRET, input={"storefrontId": storefront}))["secret"]
    koc = await a_promoter(promoter)
    await agreed(merchant, promoter, rate_ppm=100_000, individual_ppm=200_000, return_window_days=7)
    code = await a_link(merchant, promoter, product, koc)
    edge = Edge(world.http, world.settings.edge_url, world.patience)
    token = await edge.click(code, address="203.0.113.7", agent="Mozilla/5.0 (iPhone)")
    await world.later(timedelta(minutes=5))
    now = world.platform.clock.now

    # The refund and the payment are told before the order; nothing is lost.
    shop = Shop(world, storefront, secret)
    back = {
        "id": "back",
        "type": "refunded",
        "at": now() + timedelta(minutes=4),
        "lines": [{"line": "1", "quantity": 1}],
    }
    await shop.tells({"reference": "1001", "events": [back]})
    await shop.tells({"reference": "1001", "events": [{"id": "paid", "type": "paid", "at": now()}]})
    order = {
        "placed_at": now(), "currency": "CNY", "total_minor": 23_600, "shipping_minor": 1_000, "touches": [token],
        "lines": [
            {
                "reference": "1", "sku": "CREAM-50", "quantity": 2, "unit_price_minor": 11_300,
                "tax_minor": 2_600, "tax_rate_ppm": 130_000,
            }
        ],
        "buyer": {"email": "buyer@example.com"},
    }  # fmt: skip
    for result in ("recorded", "unchanged"):
        assert await shop.tells({"reference": "1001", "order": order}) == result
    await world.quiet()

    seen = await shop.sees("1001")
    (line,) = seen["commission"]
    assert (line["commission_minor"], line["taken_back_minor"], seen["refunded_minor"]) == (
        2_000,
        1_000,
        11_300,
    )
    assert (await balance(promoter))["pending"] == "7.60"
    assert await debt(merchant) == {"owed": "0.00", "commission": "0.00", "later": "10.00"}

    await shop.tells({"reference": "1001", "events": [{"id": "there", "type": "delivered", "at": now()}]})
    for party, person in ((merchant, None), (promoter, None), (promoter, koc)):
        await payable(party, person)
    await world.later(timedelta(days=8))
    await world.until(owes(merchant, owed="10.00", commission="10.00", later="0.00"), "it is not due")
    assert (await balance(promoter))["pending"] == "7.60"

    payment = (await merchant.api.mutate(PAY_DEBT, input={"currencyCode": "CNY"}))["payment"]
    browser = Browser(world.http, str(world.settings.stripe_api_base), world.patience)
    secrets = {"client_secret": payment["clientSecret"], "publishable_key": payment["publishableKey"]}
    assert await browser.confirm(payment["intentId"], **secrets, card="pm_card_visa", key="debt")
    await world.quiet()
    await world.later(timedelta(days=8))
    await world.until(owes(merchant, owed="0.00", commission="0.00", later="0.00"), "it is not paid")
    await world.until(available(promoter, "7.60"), "what came is not released")
    await world.brand_api(operator).mutate(PAY_OUT, input={"idempotencyKey": "own", "cycle": "own"})
    await world.later(timedelta(minutes=5))

    paid = {
        row["payeeId"]: row["amount"]["amount"]
        for row in (await world.brand_api(operator)(PAYOUTS))["payouts"]["nodes"]
    }
    assert paid == {promoter.id: "7.60", koc: "1.90"}
    assert (await shop.sees("1001"))["came_minor"] == 1_000


class Shop:
    """The brand's own server."""

    def __init__(self, world: World, storefront: str, secret: str) -> None:
        self._world, self._storefront, self._secret, self._calls = world, storefront, secret, 0

    async def tells(self, row: dict[str, Any]) -> str:
        raw = orjson.dumps({"orders": [row]})
        answer = await self._world.http.post(
            f"{self._base}/intake/v1/orders", content=raw, headers=self._signed(raw)
        )
        assert answer.status_code == 200, answer.text
        (told,) = answer.json()["rows"]
        assert told["error"] is None
        return str(told["result"])

    async def sees(self, reference: str) -> dict[str, Any]:
        path = f"/intake/v1/orders/{reference}"
        answer = await self._world.http.get(f"{self._base}{path}", headers=self._signed(path.encode()))
        found: dict[str, Any] = answer.json()
        return found

    @property
    def _base(self) -> str:
        return str(self._world.settings.brand_url).removesuffix("/graphql")

    def _signed(self, content: bytes) -> dict[str, str]:
        self._calls += 1
        at = self._world.platform.clock.now()
        signed = headers_of([self._secret], message_id=f"m-{self._calls}", at=at, body=content)
        return {**signed, "x-lianyu-storefront": self._storefront, "content-type": "application/json"}


async def debt(party: Party) -> dict[str, str]:
    found = (await party.api(DEBT))["commissionDebt"]
    return {name: amount["amount"] for name, amount in found.items()}


def owes(party: Party, **amounts: str) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return await debt(party) == amounts

    return holds
