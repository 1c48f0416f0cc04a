"""One sale on the real stack, from the click to everybody's bank account, to the last fen.

On paper (amounts in fen, China: 13 % tax inside the price)::

    2 × 113.00                                   goods   22,600   of it tax 2,600, so net 20,000
    freight 8.00 + handling 2.00              shipping    1,000
                                         customer pays   23,600
    supplier: 2 × 40.00 + shipping                        9,000
    commission 10 % of the net                            2,000
      platform 5 % of it                                    100
      promoter 20 % of the other 95 %                       380
      promoter's brand the rest                           1,520
    platform fee 5 % of the net                           1,000
    merchant: 23,600 − 2,600 − 9,000 − 2,000 − 1,000      9,000

One of the two comes back before anybody was paid; the supplier takes it. Half of all but the shipping goes
back: tax 1,300, supplier 4,000, commission 1,000 (50 / 190 / 760), fee 500, merchant the rest of 11,300: 4,500.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import SharedClock
from infra.config import Settings
from infra.db.session import Database
from services.demo import accounts
from services.demo.http_clients import Browser, Edge, GraphQL, Patience, Rest, client
from services.demo.quiet import Platform
from services.demo.run import unusual_ports
from services.running import running_stack
from services.secrets_file import stack_secrets
from services.wiring import make_database, make_payments
from supply.settlement.reconciliation.provider_rows import GatewayRows
from supply.settlement.reconciliation.service import reconcile
from tests.factories.ledger import horizon_passed

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

_ROUNDS = 20
MONDAY = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
CONFIGURED = ("DATABASE_URL", "APP_DATABASE_URL", "BROKER_URL", "STRIPE_API_KEY", "LIANYU_CLOCK_FILE")


@dataclass
class World:
    """The stack seen from outside, and a hand on its clock."""

    settings: Settings
    http: Any
    platform: Platform
    db: Database
    patience: Patience

    def brand_api(self, token: str = "") -> GraphQL:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return GraphQL(self.http, self.settings.brand_url, headers, self.patience)

    async def quiet(self) -> None:
        await self.platform.quiet(self.db)

    async def later(self, by: timedelta) -> None:
        self.platform.clock.advance(by)
        await self.platform.settle(self.db)

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Sweep until it holds. The sweeps of a round run side by side: one may come by before what it waits for, or
        while another has its rows locked."""
        for _ in range(_ROUNDS):
            if await holds():
                return
            await self.later(timedelta(minutes=5))
        raise AssertionError(what)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Path]]:
    directory = tmp_path_factory.mktemp("journey")
    SharedClock(directory / "clock").freeze(MONDAY)
    saved = {name: os.environ.pop(name) for name in CONFIGURED if name in os.environ}
    try:
        with running_stack(Settings(), data_dir=directory, seed=False, port_base=unusual_ports()) as running:
            yield running.settings, directory
    finally:
        os.environ.update(saved)


@pytest.fixture
async def world(stack: tuple[Settings, Path]) -> AsyncIterator[World]:
    settings, directory = stack
    db = make_database(settings)
    async with client() as http:
        platform = Platform(settings, http, admin_key=stack_secrets(directory).paysim_admin_key)
        yield World(settings, http, platform, db, Patience(30.0))
        await platform.close()
    await db.close()


async def test_from_the_click_to_the_payout(world: World) -> None:
    merchant = await signed_up(world, "BRAND", "山茶 Camellia", "owner@camellia.example.com")
    promoter = await signed_up(world, "BRAND", "圈子 Circle", "owner@circle.example.com")
    supplier = await signed_up(world, "SUPPLIER", "Works", "owner@works.example.com")
    operator = await accounts.operator(world.db, email="ops@lianyu.example.com", clock=world.platform.clock)

    variant, product = await a_cream_for_113_yuan(merchant)
    supply = Rest(world.http, world.settings.fulfillment_url, supplier.token, world.patience)
    await ten_of_it_at_40_yuan(supply, merchant.id)
    await merchant.api.mutate(AUTHORISE, input={"supplierId": supplier.id, "relation": "AUTHORISED"})
    shop = await a_shop(world, promoter)
    koc = await a_promoter(promoter)
    await agreed(merchant, promoter, rate_ppm=100_000, individual_ppm=200_000, return_window_days=7)
    code = await a_link(merchant, promoter, product, koc)

    edge = Edge(world.http, world.settings.edge_url, world.patience)
    token = await edge.click(code, address="203.0.113.7", agent="Mozilla/5.0 (iPhone)")
    await world.later(timedelta(minutes=5))
    order_id = await bought(world, shop, variant, token, pays="236.00")
    await world.quiet()

    explained = await explain(merchant, order_id)
    identity = explained["identity"]
    assert identity["holds"] is True
    assert {name: int(value) for name, value in identity.items() if name.endswith("Minor")} == {
        "customerPaidMinor": 23_600,
        "suppliersMinor": 8_000,
        "commissionsMinor": 1_900,
        "platformMinor": 1_100,
        "merchantMinor": 9_000,
        "taxMinor": 2_600,
        "shippingMinor": 1_000,
        "refundedMinor": 0,
        "couponMinor": 0,
    }

    await delivered(world, supply)
    await one_comes_back(merchant, order_id)
    await world.quiet()
    assert (await balance(merchant))["pending"] == "45.00"

    for party in (merchant, promoter, supplier):
        await payable(party)
    await payable(promoter, koc)
    await world.later(timedelta(days=16))
    for party, released in ((merchant, "45.00"), (promoter, "7.60")):
        await world.until(available(party, released), "what is due is not released")
    api = world.brand_api(operator)
    await api.mutate(PAY_OUT, input={"idempotencyKey": "first", "cycle": "first"})
    await world.until(everybody_is_paid(api, 4), "not everybody is paid out")

    paid = {row["payeeId"]: row["amount"]["amount"] for row in (await api(PAYOUTS))["payouts"]["nodes"]}
    assert paid == {
        merchant.id: "45.00",
        promoter.id: "7.60",
        koc: "1.90",
        supplier.id: "50.00",
    }
    assert (await explain(merchant, order_id))["identity"]["holds"] is True
    await every_cent_agrees_with_the_provider(world)


# --- the steps, each through its public interface ---


async def every_cent_agrees_with_the_provider(world: World) -> None:
    payments = make_payments(world.settings)
    await horizon_passed(world.db)
    report = await reconcile(world.db, GatewayRows(payments), clock=world.platform.clock)
    await payments.close()
    assert report.ok, report
    # The charge, its refund and four transfers.
    assert report.health.volume_minor == 23_600 + 11_300 + 4_500 + 760 + 190 + 5_000


@dataclass(frozen=True)
class Party:
    id: str
    token: str
    api: GraphQL


async def signed_up(world: World, kind: str, name: str, email: str) -> Party:
    given = {"kind": kind, "name": name, "email": email, "country": "CN", "currency": "CNY"}
    made = await world.brand_api().mutate(SIGN_UP, input=given)
    return Party(made["id"], made["token"], world.brand_api(made["token"]))


async def a_cream_for_113_yuan(merchant: Party) -> tuple[str, str]:
    variant = {
        "sku": "CREAM-50", "weightG": 200,
        "prices": [{"amount": {"amount": "113.00", "currencyCode": "CNY"}}],
    }  # fmt: skip
    given = {
        "titleZh": "山茶面霜", "titleEn": "Camellia Cream", "category": "beauty/skin/cream",
        "tags": ["skincare"], "variants": [variant], "publish": True,
    }  # fmt: skip
    product = (await merchant.api.mutate(PRODUCT, input=given))["product"]
    return product["variants"][0]["id"], product["id"]


async def ten_of_it_at_40_yuan(supply: Rest, brand_id: str) -> None:
    given = {
        "code": "HZ", "name": "杭州", "country": "CN", "region": "ZJ",
        "handling": {"amount": "2.00", "currency": "CNY"},
    }  # fmt: skip
    location = (await supply("POST", "/locations", given, key="location"))["id"]
    rates = {"rates": [{"dest_zone": "CN", "base": {"amount": "8.00", "currency": "CNY"}}]}
    await supply("PUT", f"/locations/{location}/zone-rates", rates, key="rates")
    offer = {
        "location_id": location,
        "unit_cost": {"amount": "40.00", "currency": "CNY"},
        "brand_id": brand_id,
    }
    await supply("PUT", "/offers/CREAM-50", offer, key="offer")
    rows = {"rows": [{"location_id": location, "sku": "CREAM-50", "on_hand": 10}]}
    assert (await supply("PATCH", "/stock", rows, key="stock"))["applied"] == 1


async def a_shop(world: World, promoter: Party) -> GraphQL:
    given = {"name": "圈子小店", "channel": "MINI_PROGRAM", "currency": "CNY", "country": "CN"}
    made = (await promoter.api.mutate(STOREFRONT, input=given))["storefront"]
    headers = {"x-storefront-key": made["publishableKey"]}
    return GraphQL(world.http, world.settings.storefront_url, headers, world.patience)


async def a_promoter(promoter: Party) -> str:
    given = {
        "name": "小禾", "kind": "KOC", "identifiers": [{"kind": "EMAIL", "value": "koc@example.com"}]
    }  # fmt: skip
    return str((await promoter.api.mutate(PROMOTER, input=given))["promoter"]["id"])


async def agreed(
    merchant: Party, promoter: Party, *, rate_ppm: int, individual_ppm: int, return_window_days: int
) -> None:
    terms = {
        "rules": [{"ratePpm": rate_ppm}], "individualPpm": individual_ppm,
        "returnWindowDays": return_window_days,
    }  # fmt: skip
    offer = {"advertiserId": merchant.id, "promoterBrandId": promoter.id, "terms": terms}
    invitation = (await merchant.api.mutate(INVITE, input=offer))["invitation"]["id"]
    opened = await promoter.api.mutate(ACCEPT, input={"id": invitation})
    signature = {"id": opened["agreement"]["id"], "contentHash": opened["contentHash"]}
    await promoter.api.mutate(SIGN, input=signature)
    signed = await merchant.api.mutate(SIGN, input=signature)
    assert signed["agreement"]["status"] == "ACTIVE"


async def a_link(merchant: Party, promoter: Party, product: str, koc: str) -> str:
    community = {"name": "护肤群", "channel": "WECOM_GROUP", "tags": ["skincare"], "declaredSize": 1}
    community_id = (await promoter.api.mutate(COMMUNITY, input=community))["community"]["id"]
    slot = {"communityId": community_id, "kind": "POST", "name": "周一"}
    placement = (await promoter.api.mutate(PLACEMENT, input=slot))["placement"]["id"]
    (agreement,) = (await promoter.api(AGREEMENTS))["agreements"]["nodes"]
    given = {
        "agreementId": agreement["id"], "placementId": placement, "productId": product, "promoterId": koc,
        "destination": "https://camellia.example.com/cream",
    }  # fmt: skip
    return str((await promoter.api.mutate(LINK, input=given))["link"]["code"])


async def bought(world: World, shop: GraphQL, variant: str, touch_token: str, *, pays: str) -> str:
    lines = [{"variantId": variant, "quantity": 2}]
    cart = await shop.mutate(CART, input={"lines": lines, "touchTokens": [touch_token]})
    address = {"name": "李知夏", "line1": "1 号", "city": "上海", "country": "CN", "region": "SH"}
    given = {"cartId": cart["cart"]["id"], "email": "buyer@example.com", "address": address}
    started = await shop.mutate(START, input=given)
    assert started["quote"]["problems"] == []
    assert started["quote"]["total"] == {"amount": pays, "currencyCode": "CNY"}
    place = {
        "checkoutId": started["checkout"]["id"],
        "idempotencyKey": "k1",
        "expectedTotal": started["quote"]["total"],
    }
    placed = await shop.mutate(PLACE, input=place)
    browser = Browser(world.http, str(world.settings.stripe_api_base), world.patience)
    payment = placed["payment"]
    secrets = {"client_secret": payment["clientSecret"], "publishable_key": payment["publishableKey"]}
    refused = await browser.confirm(payment["intentId"], **secrets, card="pm_card_chargeDeclined", key="p1")
    agreed_to = await browser.confirm(payment["intentId"], **secrets, card="pm_card_visa", key="p2")
    assert (refused, agreed_to) == (False, True)
    (order,) = placed["checkout"]["orders"]
    return str(order["id"])


async def delivered(world: World, supply: Rest) -> None:
    (order,) = (await supply("GET", "/fulfillment-orders"))["items"]
    path = f"/fulfillment-orders/{order['id']}"
    await supply("POST", f"{path}/accept", key="a")
    await supply("POST", f"{path}/ship", {"carrier": "sf_express", "tracking_no": "SF1"}, key="s")
    await world.later(timedelta(days=2))
    assert (await supply("POST", f"{path}/deliver", key="d"))["status"] == "DELIVERED"
    await world.quiet()


async def one_comes_back(merchant: Party, order_id: str) -> None:
    order = (await merchant.api(ORDER, id=order_id))["order"]
    assert order["fulfillmentStatus"] == "DELIVERED"
    line = {"orderLineId": order["lines"][0]["id"], "quantity": 1, "supplierAccepts": True}
    given = {"orderId": order_id, "idempotencyKey": "back", "lines": [line], "reason": "too small"}
    refund = (await merchant.api.mutate(REFUND, input=given))["refund"]
    assert refund["amount"] == {"amount": "113.00", "currencyCode": "CNY"}


async def payable(party: Party, promoter: str | None = None) -> None:
    given = {"idempotencyKey": f"{party.id}{promoter}", "currencyCode": "CNY", "promoterId": promoter}
    await party.api.mutate(PAYOUT_ACCOUNT, input=given)


async def balance(party: Party) -> dict[str, str]:
    (row,) = (await party.api(BALANCES))["balances"]
    return {name: amount["amount"] for name, amount in row.items()}


def available(party: Party, amount: str) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return (await balance(party))["available"] == amount

    return holds


def everybody_is_paid(operator: GraphQL, payees: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        states = [row["status"] for row in (await operator(PAYOUTS))["payouts"]["nodes"]]
        assert len(states) <= payees
        return states == ["PAID"] * payees

    return holds


async def explain(party: Party, order_id: str) -> dict[str, Any]:
    explained: dict[str, Any] = (await party.api(EXPLAIN, id=order_id))["explainOrder"]
    return explained


_ERRORS = "userErrors { code message field }"


def _mutation(field: str, input_type: str, selection: str) -> str:
    return f"mutation {field}($input: {input_type}!) {{ {field}(input: $input) {{ {selection} {_ERRORS} }} }}"


SIGN_UP = _mutation("signUp", "SignUpInput", "id token")
PRODUCT = _mutation("productCreate", "ProductCreateInput", "product { id variants { id } }")
STOREFRONT = _mutation("storefrontCreate", "StorefrontCreateInput", "storefront { publishableKey }")
PROMOTER = _mutation("promoterCreate", "PromoterCreateInput", "promoter { id }")
INVITE = _mutation("invitationSend", "InvitationSendInput", "invitation { id }")
ACCEPT = _mutation("invitationAccept", "InvitationAnswerInput", "agreement { id } contentHash")
SIGN = _mutation("agreementSign", "AgreementSignInput", "agreement { status }")
COMMUNITY = _mutation("communityCreate", "CommunityCreateInput", "community { id }")
PLACEMENT = _mutation("placementCreate", "PlacementCreateInput", "placement { id }")
LINK = _mutation("linkCreate", "LinkCreateInput", "link { code }")
CART = _mutation("cartCreate", "CartCreateInput", "cart { id }")
START = _mutation(
    "checkoutStart",
    "CheckoutStartInput",
    "checkout { id } quote { total { amount currencyCode } problems { code } }",
)
PLACE = _mutation(
    "checkoutPlace",
    "CheckoutPlaceInput",
    "checkout { orders { id } } payment { intentId clientSecret publishableKey }",
)
REFUND = _mutation("refundCreate", "RefundCreateInput", "refund { id amount { amount currencyCode } }")
PAYOUT_ACCOUNT = _mutation("payoutAccountCreate", "PayoutAccountCreateInput", "payee { id }")
AUTHORISE = "mutation($input: SupplierRuleSetInput!) { supplierRuleSet(input: $input) { userErrors { code message } } }"
PAY_OUT = _mutation("payoutRun", "PayoutRunInput", "batchId")
AGREEMENTS = "query agreements { agreements { nodes { id } } }"
ORDER = "query order($id: ID!) { order(id: $id) { fulfillmentStatus lines { id } } }"
EXPLAIN = "query explain($id: ID!) { explainOrder(id: $id) }"
BALANCES = "query balances { balances { pending { amount } available { amount } } }"
PAYOUTS = "query payouts { payouts { nodes { payeeId status amount { amount } } } }"
