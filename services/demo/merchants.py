"""What brands and the operator do after the sale: give money back, pay everybody out. Brand API only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from infra.config import Settings
from services.demo.http_clients import GraphQL, Patience
from services.demo.market import Market
from services.demo.notebook import Notebook
from services.demo.shopper import Bought

_ORDER = """
query order($id: ID!) {
  order(id: $id) { id merchantId fulfillmentStatus lines { id sku quantity refundedQuantity } }
}
"""
_HELD = """
query held {
  orders(first: 50, fulfillmentStatus: ON_HOLD) {
    nodes { id merchantId }
  }
}
"""
_WITHOUT_SOURCE = """
query parts($id: ID!) {
  fulfillmentOfOrder(orderId: $id) { status lines { orderLineId quantity rejected cancelled } }
}
"""
_REFUND = """
mutation refund($input: RefundCreateInput!) {
  refundCreate(input: $input) { refund { id status } userErrors { code message field } }
}
"""
_PAYOUT = """
mutation payout($input: PayoutRunInput!) {
  payoutRun(input: $input) { batchId userErrors { code message field } }
}
"""


@dataclass(slots=True)
class Merchants:
    http: httpx.AsyncClient
    settings: Settings
    market: Market
    notes: Notebook
    patience: Patience
    refunds: list[str] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)

    def _api(self, name: str) -> GraphQL:
        headers = {"authorization": f"Bearer {self.notes[f'token:{name}']}"}
        return GraphQL(self.http, self.settings.brand_url, headers, self.patience)

    def brands(self) -> dict[str, GraphQL]:
        """The brand API as each brand of the market, by its id."""
        return {self.notes[f"id:{brand.key}"]: self._api(brand.key) for brand in self.market.brands}

    @property
    def _operator(self) -> GraphQL:
        return self._api("operator")

    async def send_back(self, bought: Sequence[Bought], *, after_payout: bool) -> None:
        """Refund, by line, what shoppers sent back of delivered orders."""
        for purchase in bought:
            wish = purchase.visit.sent_back
            if (
                wish is not None
                and wish.after_payout == after_payout
                and purchase.checkout_id not in self._done
            ):
                await self._send_back(purchase, wish.quantity, after_payout=after_payout)

    async def _send_back(self, purchase: Bought, quantity: int, *, after_payout: bool) -> None:
        first = purchase.visit.lines[0]
        merchant = self.notes[f"id:{first.brand}"]
        for order_id in purchase.order_ids:
            order = (await self._operator(_ORDER, id=order_id))["order"]
            if order["merchantId"] != merchant:
                continue
            if order["fulfillmentStatus"] != "DELIVERED":
                return
            pieces = [line for line in order["lines"] if line["sku"] == first.sku]
            if pieces:
                units = min(quantity, pieces[0]["quantity"] - pieces[0]["refundedQuantity"])
                reason = "sent back after payout" if after_payout else "sent back"
                await self._refund(first.brand, order_id, [(pieces[0]["id"], units)], reason)
        self._done.add(purchase.checkout_id)

    async def give_back_unsourced(self) -> None:
        """What nobody can deliver is paid back with its shipping."""
        for order in (await self._operator(_HELD))["orders"]["nodes"]:
            (brand,) = (b for b in self.market.brands if self.notes[f"id:{b.key}"] == order["merchantId"])
            parts = await self._api(brand.key)(_WITHOUT_SOURCE, id=order["id"])
            held = [
                (line["orderLineId"], line["quantity"] - line["rejected"] - line["cancelled"])
                for part in parts["fulfillmentOfOrder"]
                if part["status"] == "ON_HOLD"
                for line in part["lines"]
            ]
            without_source = [(line, units) for line, units in held if units]
            if without_source:
                reason = "nobody can deliver it"
                await self._refund(brand.key, order["id"], without_source, reason, never_sent=True)

    async def _refund(
        self,
        brand: str,
        order_id: str,
        lines: Sequence[tuple[str, int]],
        reason: str,
        *,
        never_sent: bool = False,
    ) -> None:
        given: dict[str, Any] = {
            "orderId": order_id,
            "idempotencyKey": f"refund-{lines[0][0]}",
            "lines": [
                {"orderLineId": id, "quantity": n, "supplierAccepts": True, "withShipping": never_sent}
                for id, n in lines
            ],
            "reason": reason,
        }
        made = await self._api(brand).mutate(_REFUND, input=given)
        self.refunds.append(made["refund"]["id"])

    async def pay_out(self, cycle: str) -> None:
        """The operator's payout cycle: whoever has something available gets it."""
        await self._operator.mutate(_PAYOUT, input={"idempotencyKey": f"demo-{cycle}", "cycle": cycle})
