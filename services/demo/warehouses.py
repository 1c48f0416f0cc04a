"""The suppliers: each works through its list over the fulfilment API, and hears about new orders by webhook.

Most answer at once; one goes silent for two days, so that its orders time out and find another source; one
ships late; one order in sixteen is refused. A small receiver of their own takes the signed webhooks.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from core.clock import Clock, SystemClock
from infra.config import Settings
from services.demo.http_clients import Patience, Refused, Rest, each
from services.demo.inbox import Inbox
from services.demo.market import Market, Supplier
from services.demo.notebook import Notebook
from services.demo.scenario import LATE_STEPS, LATE_SUPPLIER, SLOW_SUPPLIER, refuses

_PACKING = timedelta(hours=10)
_PACKING_SLOWLY = timedelta(hours=70)
_ON_THE_WAY = timedelta(hours=34)
_REASONS = ("NOT_IN_STOCK", "CAPACITY", "DAMAGED")


@dataclass(slots=True)
class Warehouses:
    http: httpx.AsyncClient
    settings: Settings
    market: Market
    notes: Notebook
    patience: Patience
    inbox: Inbox
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, http: httpx.AsyncClient, settings: Settings, market: Market, notes: Notebook, patience: Patience
    ) -> AsyncIterator[Warehouses]:
        """With the receiver listening and every supplier subscribed to it."""
        async with Inbox.listening() as inbox:
            warehouses = cls(http, settings, market, notes, patience, inbox)
            await warehouses.subscribe()
            yield warehouses

    @property
    def webhooks(self) -> int:
        """Distinct messages with a valid signature."""
        return len(self.inbox.messages)

    def _api(self, supplier: Supplier) -> Rest:
        token = self.notes[f"token:{supplier.code}"]
        return Rest(self.http, self.settings.fulfillment_url, token, self.patience)

    async def subscribe(self) -> None:
        for supplier in self.market.suppliers:
            given = {"url": f"{self.inbox.url}/{supplier.code}", "events": ["fulfillment_order.submitted"]}
            made = await self._api(supplier)(
                "POST", "/webhook-endpoints", given, key=f"inbox-{self.inbox.url}-{supplier.code}"
            )
            self.inbox.secrets[supplier.code] = made["secret"]

    async def work(self, step: int) -> None:
        """One round of every supplier that is at work."""
        present = [
            supplier
            for supplier in self.market.suppliers
            if not (supplier.code == LATE_SUPPLIER and step in LATE_STEPS)
        ]
        await each(present, self._round, at_once=4)

    async def _round(self, supplier: Supplier) -> None:
        api = self._api(supplier)
        for order in await self._open(api):
            try:
                await self._next(api, supplier, order)
            except Refused as refusal:
                # It moved on since the list was read: the next round sees where it is.
                self.patience.troubles[f"supplier: {','.join(refusal.codes)}"] += 1

    async def _open(self, api: Rest) -> list[dict[str, Any]]:
        """All orders that wait for something, page by page."""
        orders: list[dict[str, Any]] = []
        wanted: dict[str, Any] = {"status": ["OPEN", "IN_PROGRESS", "SHIPPED"], "limit": 100}
        while True:
            page = await api("GET", "/fulfillment-orders", params=wanted)
            orders += page["items"]
            if not page["next_cursor"]:
                return orders
            wanted["cursor"] = page["next_cursor"]

    async def _next(self, api: Rest, supplier: Supplier, order: dict[str, Any]) -> None:
        actions, id = order["allowed_actions"], order["id"]
        now = self.clock.now()
        if "accept" in actions:
            await self._answer(api, supplier, order)
        elif "ship" in actions:
            packing = _PACKING_SLOWLY if supplier.code == SLOW_SUPPLIER else _PACKING
            if now - _time(order["accepted_at"]) >= packing:
                await api("POST", f"/fulfillment-orders/{id}/ship", _parcel(order), key=f"ship-{id}")
        elif order["shipments"] and now - _time(order["shipped_at"]) >= _ON_THE_WAY:
            await api("POST", f"/fulfillment-orders/{id}/deliver", {}, key=f"deliver-{id}")

    async def _answer(self, api: Rest, supplier: Supplier, order: dict[str, Any]) -> None:
        id = order["id"]
        lines = [(line["sku"], int(line["quantity"])) for line in order["lines"]]
        if refuses(self.market.seed, supplier.code, lines, self.market.lonely_sku):
            reason = _REASONS[len(lines[0][0]) % len(_REASONS)]
            await api("POST", f"/fulfillment-orders/{id}/reject", {"reason": reason}, key=f"reject-{id}")
        else:
            await api("POST", f"/fulfillment-orders/{id}/accept", {}, key=f"accept-{id}")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _parcel(order: dict[str, Any]) -> dict[str, Any]:
    return {"carrier": "sf_express", "tracking_no": f"SF{order['id'][-12:].upper()}"}
