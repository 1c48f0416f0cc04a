"""What the walk asks of the fulfilment API. An endpoint without an entry here fails the walk.

A name in capitals, or of a table, is filled in from the market (walk.py); None asks without arguments. ``OWN``: it
makes or changes rows of the caller alone, whatever is asked.
"""

from __future__ import annotations

from typing import Any

from tests.graph.isolation.walk import OWN

_CNY = {"currency": "CNY", "amount": "1.00"}
ENDPOINTS: dict[tuple[str, str], tuple[Any, str]] = {
    ("GET", "/fulfillment-orders"): (None, ""),
    ("GET", "/fulfillment-orders/{order_id}"): (None, ""),
    ("POST", "/fulfillment-orders/{order_id}/accept"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/accept-partial"): (
        {"lines": [{"line_id": "fulfillment_lines", "quantity": 1}]}, "",
    ),
    ("POST", "/fulfillment-orders/{order_id}/reject"): ({"reason": "CAPACITY"}, ""),
    ("POST", "/fulfillment-orders/{order_id}/cannot-complete"): ({"reason": "CAPACITY"}, ""),
    ("POST", "/fulfillment-orders/{order_id}/ship"): ({"carrier": "zto", "tracking_no": "W1"}, ""),
    ("POST", "/fulfillment-orders/{order_id}/deliver"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/lost"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/accept-cancel"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/reject-cancel"): ({}, ""),
    ("POST", "/shipments/{shipment_id}/tracking-events"): (
        {"events": [{"event_id": "w", "status": "DELIVERED", "at": "2026-03-03T00:00:00Z"}]}, "",
    ),
    # The batch itself is answered and remembered; what became of each order is inside.
    ("POST", "/fulfillment-orders/batch-ack"): ({"items": [{"fulfillment_order_id": "fulfillment_orders"}]}, OWN),
    ("GET", "/profile"): (None, OWN),
    ("PATCH", "/profile"): ({"ship_sla_hours": 48}, OWN),
    ("GET", "/locations"): (None, ""),
    ("POST", "/locations"): ({"code": "w", "name": "w", "country": "CN", "handling": _CNY}, OWN),
    ("PATCH", "/locations/{location_id}"): ({"status": "paused"}, ""),
    ("PUT", "/locations/{location_id}/zone-rates"): ({"rates": []}, ""),
    ("GET", "/locations/{location_id}/zone-rates"): (None, ""),
    ("GET", "/offers"): (None, ""),
    ("PUT", "/offers"): ({"offers": [{"sku": "SKU", "location_id": "locations", "unit_cost": _CNY}]}, ""),
    ("PUT", "/offers/{sku}"): ({"location_id": "locations", "unit_cost": _CNY}, ""),
    ("PATCH", "/prices"): ({"prices": [{"sku": "SKU", "location_id": "locations", "unit_cost": _CNY}]}, ""),
    ("GET", "/stock"): (None, ""),
    ("GET", "/stock/movements"): (None, ""),
    # Row by row: the batch is remembered, the row refused.
    ("PATCH", "/stock"): ({"rows": [{"location_id": "locations", "sku": "SKU", "on_hand": 0}]}, OWN),
    ("GET", "/balances"): (None, ""),
    ("GET", "/payouts"): (None, ""),
    ("GET", "/bank-payouts"): (None, ""),
    ("GET", "/coupons"): (None, ""),
    ("POST", "/coupons"): ({"code": "WALK", "currency": "CNY", "amount": _CNY}, OWN),
    ("POST", "/coupons/{coupon_id}/end"): (None, ""),
    ("GET", "/settlements"): (None, ""),
    ("GET", "/settlements/{statement_id}"): (None, ""),
    ("GET", "/settlements/{statement_id}/lines.csv"): (None, ""),
    ("GET", "/settlements/{statement_id}/statement.pdf"): (None, ""),
    ("GET", "/returns"): (None, ""),
    ("POST", "/returns/{return_id}/receive"): ({"lines": [{"order_line_id": "order_lines", "quantity": 1}]}, ""),
    ("POST", "/returns/{return_id}/inspect"): ({"accepted": []}, ""),
    ("GET", "/webhook-endpoints"): (None, ""),
    ("POST", "/webhook-endpoints"): ({"url": "http://127.0.0.1:9/mine"}, OWN),
    ("PATCH", "/webhook-endpoints/{endpoint_id}"): ({"active": False}, ""),
    ("DELETE", "/webhook-endpoints/{endpoint_id}"): (None, ""),
    ("POST", "/webhook-endpoints/{endpoint_id}/rotate-secret"): (None, ""),
    ("GET", "/webhook-deliveries"): (None, ""),
    ("POST", "/webhook-deliveries/{delivery_id}/replay"): (None, ""),
}  # fmt: skip
IN_PATH = {
    "order_id": "fulfillment_orders", "shipment_id": "shipments", "location_id": "locations", "sku": "SKU",
    "return_id": "RETURN", "coupon_id": "coupons", "statement_id": "statements", "endpoint_id": "webhook_endpoints",
    "delivery_id": "webhook_deliveries",
}  # fmt: skip
