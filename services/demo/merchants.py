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
    nodes { id merchantId lines { id sku quantity refundedQuantity } }
  }
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
        api = self._api(first.brand)
        for order_id in purchase.order_ids:
            if not await self._belongs(order_id, first.brand):
                continue
            order = (await api(_ORDER, id=order_id))["order"]
            if order["fulfillmentStatus"] != "DELIVERED":
                return
            pieces = [line for line in order["lines"] if line["sku"] == first.sku]
            if pieces:
                units = min(quantity, pieces[0]["quantity"] - pieces[0]["refundedQuantity"])
                reason = "sent back after payout" if after_payout else "sent back"
                await self._refund(api, order_id, [(pieces[0]["id"], units)], reason)
        self._done.add(purchase.checkout_id)

    async def _belongs(self, order_id: str, brand: str) -> bool:
        operator = GraphQL(
            self.http,
            self.settings.brand_url,
            {"authorization": f"Bearer {self.notes['token:operator']}"},
            self.patience,
        )
        order = (await operator(_ORDER, id=order_id))["order"]
        return bool(order["merchantId"] == self.notes[f"id:{brand}"])

    async def give_back_unsourced(self) -> None:
        """What nobody can deliver is paid back with its shipping: the lonely line of its order."""
        for brand in self.market.brands:
            api = self._api(brand.key)
            for order in (await api(_HELD))["orders"]["nodes"]:
                lines = [
                    (line["id"], line["quantity"])
                    for line in order["lines"]
                    if line["sku"] == self.market.lonely_sku and not line["refundedQuantity"]
                ]
                if lines and order["merchantId"] == self.notes[f"id:{brand.key}"]:
                    await self._refund(api, order["id"], lines, "nobody can deliver it", never_sent=True)

    async def _refund(
        self,
        api: GraphQL,
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
        made = await api.mutate(_REFUND, input=given)
        self.refunds.append(made["refund"]["id"])

    async def pay_out(self, cycle: str) -> None:
        """The operator's payout cycle: whoever has something available gets it."""
        await self._api("operator").mutate(_PAYOUT, input={"idempotencyKey": f"demo-{cycle}", "cycle": cycle})
