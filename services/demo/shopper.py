"""A shopper: follows links, fills a basket, pays, changes their mind. Only public interfaces."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from services.demo.http_clients import Browser, Edge, GraphQL, Refused
from services.demo.market import Market
from services.demo.notebook import Notebook
from services.demo.reach import codes_of
from services.demo.report import Driven
from services.demo.scenario import Visit

_CART = """
mutation cart($input: CartCreateInput!) {
  cartCreate(input: $input) { cart { id lines { id variant { id } } } userErrors { code message field } }
}
"""
_SET_LINES = """
mutation lines($input: CartSetLinesInput!) {
  cartSetLines(input: $input) { cart { id } userErrors { code message field } }
}
"""
_COUPON = """
mutation coupon($input: CartCouponApplyInput!) {
  cartCouponApply(input: $input) { cart { id } userErrors { code message field } }
}
"""
_NO_COUPON = """
mutation coupon($input: CartCouponRemoveInput!) {
  cartCouponRemove(input: $input) { cart { id } userErrors { code message field } }
}
"""
_START = """
mutation start($input: CheckoutStartInput!) {
  checkoutStart(input: $input) {
    checkout { id }
    quote { total { amount currencyCode } problems { code message field facts } }
    userErrors { code message field }
  }
}
"""
_PLACE = """
mutation place($input: CheckoutPlaceInput!) {
  checkoutPlace(input: $input) {
    checkout { id status orders { id number } }
    payment { intentId clientSecret publishableKey }
    userErrors { code message field }
  }
}
"""
_PAY = """
mutation pay($id: ID!) {
  checkoutPay(checkoutId: $id) {
    checkout { id status orders { id number } }
    payment { intentId clientSecret publishableKey }
    userErrors { code message field }
  }
}
"""
_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 MicroMessenger/8.0.60",
    "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 Chrome/146.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 16_0) AppleWebKit/605.1.15 Version/20.0 Safari/605.1.15",
)


@dataclass(frozen=True, slots=True)
class Bought:
    """A visit that ended in orders; ``line`` is what may come back later."""

    visit: Visit
    checkout_id: str
    order_ids: tuple[str, ...]


@dataclass(slots=True)
class Shoppers:
    """All of them, with one memory of the tokens their clicks left."""

    market: Market
    notes: Notebook
    edge: Edge
    browser: Browser
    storefronts: dict[tuple[str, int], GraphQL]
    driven: Driven
    away: Counter[str] = field(default_factory=Counter)
    bought: list[Bought] = field(default_factory=list)
    _tokens: dict[int, list[str]] = field(default_factory=dict)

    async def click(self, visit: Visit) -> None:
        """Every link of the visit, oldest first."""
        address = f"203.0.113.{visit.number % 250 + 1}"  # RFC 5737: nobody's
        agent = _AGENTS[visit.number % len(_AGENTS)]
        tokens = []
        for link in visit.clicks:
            # What is printed on parcel cards is scanned, one arm or the other.
            arms = self.notes.get(f"arms:{link}")
            code = arms[visit.number % len(arms)] if arms else self.notes[f"link:{link}"]
            token = await self.edge.click(code, address=address, agent=agent, scan=bool(arms))
            tokens.append(token)
            self.driven.clicks += 1
            self.driven.scans += bool(arms)
        self._tokens[visit.number] = tokens

    async def buy(self, visit: Visit) -> None:
        """From the basket to the paid checkout, or away without."""
        shop = self.storefronts[visit.storefront]
        try:
            checkout = await self._checkout(shop, visit)
            placed = await self._place(shop, visit, checkout)
        except Refused as refusal:
            self.away.update(refusal.codes)
            return
        if placed is None:
            return
        self.driven.placed.append(placed["checkout"]["id"])
        if await self._pay(visit, placed["payment"]):
            self.driven.paid.add(placed["checkout"]["id"])
            orders = tuple(order["id"] for order in placed["checkout"]["orders"])
            self.bought.append(Bought(visit, placed["checkout"]["id"], orders))

    async def _checkout(self, shop: GraphQL, visit: Visit) -> dict[str, Any] | None:
        """A checkout without problems: what cannot be had is taken out of the basket, once."""
        lines = {self.notes[f"variant:{line.sku}"]: line.quantity for line in visit.lines}
        made = await shop.mutate(
            _CART,
            input={
                "lines": [{"variantId": id, "quantity": n} for id, n in lines.items()],
                "touchTokens": self._tokens.get(visit.number, []),
            },
        )
        cart = made["cart"]["id"]
        if visit.code is not None:
            code = codes_of(self.market)[visit.code].text
            await shop.mutate(_COUPON, input={"cartId": cart, "code": code})
            self.driven.codes += 1
        variants = {line["id"]: line["variant"]["id"] for line in made["cart"]["lines"]}
        for _ in range(2):
            started = await shop.mutate(_START, input=self._address(visit, cart))
            problems = started["quote"]["problems"]
            if not problems:
                return {"id": started["checkout"]["id"], "total": started["quote"]["total"]}
            self.away.update(problem["code"] for problem in problems)
            if any(problem["code"] == "COUPON_NOT_USABLE" for problem in problems):
                await shop.mutate(_NO_COUPON, input={"cartId": cart})
                continue
            await shop.mutate(_SET_LINES, input={"cartId": cart, "lines": _without(problems, variants)})
        return None

    def _address(self, visit: Visit, cart: str) -> dict[str, Any]:
        return {
            "cartId": cart,
            "email": visit.person.email,
            "address": {
                "name": visit.person.name,
                "line1": f"{visit.number + 1} 号" if visit.country == "CN" else f"Street {visit.number + 1}",
                "city": visit.city,
                "country": visit.country,
                "region": visit.region,
                "phone": visit.person.phone,
            },
        }

    async def _place(
        self, shop: GraphQL, visit: Visit, checkout: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        if checkout is None:
            return None
        given = {
            "checkoutId": checkout["id"],
            "idempotencyKey": f"place-{checkout['id']}",
            "expectedTotal": checkout["total"],
        }
        data = (await shop(_PLACE, input=given))["checkoutPlace"]
        for _ in range(60):
            codes = [error["code"] for error in data["userErrors"]]
            if codes != ["PAYMENT_UNAVAILABLE"]:
                break
            await asyncio.sleep(0.5)  # the order stands; only the provider is away
            data = (await shop(_PAY, id=checkout["id"]))["checkoutPay"]
        if codes:
            raise Refused("checkoutPlace", codes, str(data["userErrors"]))
        placed: dict[str, Any] = data
        return placed

    async def _pay(self, visit: Visit, payment: dict[str, Any]) -> bool:
        for attempt, card in enumerate(visit.cards):
            agreed = await self.browser.confirm(
                payment["intentId"],
                client_secret=payment["clientSecret"],
                publishable_key=payment["publishableKey"],
                card=card,
                key=f"pay-{payment['intentId']}-{attempt}",
            )
            if agreed:
                return True
            self.driven.declined += 1
        return False


def _without(problems: list[dict[str, Any]], variants: dict[str, str]) -> list[dict[str, Any]]:
    """The lines that the problems name, taken out; all of them when none is named."""
    named = {(problem["facts"] or {}).get("lineId") for problem in problems}
    gone = [variant for line, variant in variants.items() if line in named] or list(variants.values())
    return [{"variantId": variant, "quantity": 0} for variant in gone]
