"""What the walk asks of the storefront API. A field without an entry here fails the walk.

A name in capitals, or of a table, is filled in from the market (walk.py); None asks without arguments. ``OWN``: it
makes or changes rows of the caller alone, whatever is asked.
"""

from __future__ import annotations

from typing import Any

QUERIES: dict[str, dict[str, Any] | None] = {
    "products": {"first": 100}, "product": {"id": "products"}, "suggest": {"prefix": "保"},
    "cart": {"id": "carts"}, "checkout": {"id": "checkouts"},
}  # fmt: skip
_ADDRESS = {"name": "x", "line1": "x", "city": "x", "country": "CN"}
MUTATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "cartCreate": ({"lines": [{"variantId": "variants", "quantity": 1}]}, ""),
    "cartSetLines": ({"cartId": "carts", "lines": []}, ""),
    "cartCouponApply": ({"cartId": "carts", "code": "PRIVATE-CODE"}, ""),
    "cartCouponRemove": ({"cartId": "carts"}, ""),
    "checkoutStart": ({"cartId": "carts", "email": "x@example.com", "address": _ADDRESS}, ""),
    "checkoutPlace": ({"checkoutId": "checkouts", "idempotencyKey": "w"}, ""),
    "checkoutPay": ({"checkoutId": "checkouts"}, ""),
}
