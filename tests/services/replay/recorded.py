"""Small recordings in the dataset's own files, and what must come of any recording, reckoned from its files.

``expected`` reads the CSVs with the standard library and knows nothing of the product.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

PRODUCTS = {"kettle": "casa", "poster": "artes", "console": "pc_gamer", "riddle": ""}
"""Product to category; ``pc_gamer`` has no translation, ``riddle`` no category."""


@dataclass
class Recording:
    """Writes the files of orders one by one: BOM, quotes and line breaks as the dataset has them."""

    directory: Path
    orders: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    payments: list[dict[str, Any]] = field(default_factory=list)

    def order(
        self,
        name: str,
        *,
        bought: str,
        status: str = "delivered",
        approved: str = "",
        carrier: str = "",
        delivered: str = "",
        promised: str = "",
        items: Sequence[tuple[str, str, str, str]] = (("kettle", "ana", "10.00", "2.00"),),
        limit: str = "",
        paid: Sequence[str] | None = None,
    ) -> str:
        """``items``: product, seller, price, freight. ``paid``: exactly the items unless given."""
        self.orders.append(
            {
                "order_id": name, "customer_id": f"customer-of-{name}", "order_status": status,
                "order_purchase_timestamp": bought, "order_approved_at": approved,
                "order_delivered_carrier_date": carrier, "order_delivered_customer_date": delivered,
                "order_estimated_delivery_date": promised or bought,
            }
        )  # fmt: skip
        for number, (product, seller, price, freight) in enumerate(items, start=1):
            self.items.append(
                {
                    "order_id": name, "order_item_id": number, "product_id": product, "seller_id": seller,
                    "shipping_limit_date": limit or bought, "price": price, "freight_value": freight,
                }
            )  # fmt: skip
        whole = sum((Decimal(price) + Decimal(freight) for _, _, price, freight in items), Decimal(0))
        for number, amount in enumerate([str(whole)] if paid is None else paid, start=1):
            self.payments.append(
                {
                    "order_id": name, "payment_sequential": number, "payment_type": "credit_card",
                    "payment_installments": 1, "payment_value": amount,
                }
            )  # fmt: skip
        return name

    def write(self) -> Path:
        customers = [
            {
                "customer_id": order["customer_id"], "customer_unique_id": f"person-{order['order_id']}",
                "customer_zip_code_prefix": "01000", "customer_city": "são paulo, \"centro\"",
                "customer_state": "SP",
            }
            for order in self.orders
        ]  # fmt: skip
        reviews = [
            {"review_id": f"r-{order['order_id']}", "order_id": order["order_id"], "review_score": 5,
             "review_comment_message": "first line,\nsecond \"line\""}
            for order in self.orders[:1]
        ]  # fmt: skip
        sellers = [
            {"seller_id": name, "seller_zip_code_prefix": "20000", "seller_city": "rio", "seller_state": "RJ"}
            for name in sorted({item["seller_id"] for item in self.items} | {"idle"})
        ]
        products = [
            {"product_id": name, "product_category_name": category, "product_weight_g": 500}
            for name, category in PRODUCTS.items()
        ]
        english = [
            {"product_category_name": name, "product_category_name_english": f"{name}_in_english"}
            for name in ("casa", "artes")
        ]
        whole, subset = self.directory, self.directory / "verified_subset"
        subset.mkdir(exist_ok=True)
        _write(subset / "olist_orders_dataset.csv", self.orders)
        _write(subset / "olist_order_items_dataset.csv", self.items)
        _write(subset / "olist_order_payments_dataset.csv", self.payments)
        _write(subset / "olist_customers_dataset.csv", customers)
        _write(subset / "olist_order_reviews_dataset.csv", reviews)
        _write(whole / "olist_sellers_dataset.csv", sellers)
        _write(whole / "olist_products_dataset.csv", products)
        _write(whole / "product_category_name_translation.csv", english)
        return self.directory


_EMPTY = {
    "olist_order_items_dataset.csv": "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,"
    "freight_value",
    "olist_order_payments_dataset.csv": "order_id,payment_sequential,payment_type,payment_installments,payment_value",
}


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        if not rows:
            file.write(_EMPTY[path.name] + "\n")
            return
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _cents(text: str) -> int:
    return int(Decimal(text) * 100)


def expected(directory: Path, limit: int | None = None) -> dict[str, Any]:
    """Every key of the report but ledger, quirks and speed; and ``settlement`` by seller and month."""
    subset = directory / "verified_subset"
    orders = _rows(subset / "olist_orders_dataset.csv")
    orders.sort(key=lambda o: (o["order_purchase_timestamp"], o["order_id"]))
    orders = orders[:limit]
    ids = {o["order_id"] for o in orders}
    items, paid = defaultdict(list), Counter[str]()
    for row in _rows(subset / "olist_order_items_dataset.csv"):
        if row["order_id"] in ids:
            items[row["order_id"]].append(row)
    payments = [r for r in _rows(subset / "olist_order_payments_dataset.csv") if r["order_id"] in ids]
    for row in payments:
        paid[row["order_id"]] += _cents(row["payment_value"])
    people = {o["customer_id"] for o in orders}
    sold = [item for each in items.values() for item in each]
    sellers_of = {name: {item["seller_id"] for item in each} for name, each in items.items()}
    dated = [o for o in orders if o["order_status"] == "delivered" and o["order_delivered_customer_date"]]
    whole = {
        name: sum(_cents(item["price"]) + _cents(item["freight_value"]) for item in each)
        for name, each in items.items()
    }
    settlement = _settlement(orders, items)
    return {
        "rows": {
            "orders": len(orders),
            "order_items": len(sold),
            "customers": sum(
                row["customer_id"] in people for row in _rows(subset / "olist_customers_dataset.csv")
            ),
            "order_payments": len(payments),
            "order_reviews": sum(
                row["order_id"] in ids for row in _rows(subset / "olist_order_reviews_dataset.csv")
            ),
        },
        "orders_by_status": dict(Counter(o["order_status"] for o in orders)),
        "orders_with_items": len(items),
        "orders_without_items": len(orders) - len(items),
        "sum_price_minor": sum(_cents(item["price"]) for item in sold),
        "sum_freight_minor": sum(_cents(item["freight_value"]) for item in sold),
        "sum_payments_minor": sum(paid.values()),
        "distinct_sellers": len({item["seller_id"] for item in sold}),
        "distinct_products": len({item["product_id"] for item in sold}),
        "multi_seller_orders": sum(len(each) > 1 for each in sellers_of.values()),
        "max_sellers_per_order": max((len(each) for each in sellers_of.values()), default=0),
        "fulfillment_orders": sum(len(each) for each in sellers_of.values()),
        "delivered_with_date": len(dated),
        "late_by_calendar_date": sum(
            o["order_delivered_customer_date"][:10] > o["order_estimated_delivery_date"][:10] for o in dated
        ),
        "handed_to_carrier_after_limit": sum(
            o["order_delivered_carrier_date"] > min(i["shipping_limit_date"] for i in part)
            for o in orders
            if o["order_delivered_carrier_date"]
            for part in _by_seller(items[o["order_id"]]).values()
        ),
        "payments_equal_items_plus_freight": sum(paid[name] == amount for name, amount in whole.items()),
        "payments_differ": sum(paid[name] != amount for name, amount in whole.items()),
        "settled": {
            **{name: sum(row[name] for row in settlement.values()) for name in _SETTLED},
            "seller_months": len(settlement),
        },
        "settlement": settlement,
    }


_SETTLED = ("price_minor", "freight_minor", "commission_minor", "net_minor")


def _by_seller(items: Sequence[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    found = defaultdict(list)
    for item in items:
        found[item["seller_id"]].append(item)
    return found


def _settlement(
    orders: Sequence[dict[str, str]], items: dict[str, list[dict[str, str]]]
) -> dict[tuple[str, str], dict[str, int]]:
    months: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_SETTLED, 0))
    for order in orders:
        if order["order_status"] != "delivered":
            continue
        month = (order["order_delivered_customer_date"] or order["order_purchase_timestamp"])[:7]
        for seller, part in _by_seller(items.get(order["order_id"], [])).items():
            price = sum(_cents(item["price"]) for item in part)
            freight = sum(_cents(item["freight_value"]) for item in part)
            commission = (price + 5) // 10
            row = months[seller, month]
            row["price_minor"] += price
            row["freight_minor"] += freight
            row["commission_minor"] += commission
            row["net_minor"] += price + freight - commission
    return dict(months)


COMPARED = (
    "rows", "orders_by_status", "orders_with_items", "orders_without_items", "sum_price_minor",
    "sum_freight_minor", "sum_payments_minor", "distinct_sellers", "distinct_products", "multi_seller_orders",
    "max_sellers_per_order", "fulfillment_orders", "delivered_with_date", "late_by_calendar_date",
    "handed_to_carrier_after_limit", "payments_equal_items_plus_freight", "payments_differ", "settled",
)  # fmt: skip
