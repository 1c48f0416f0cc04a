"""Reading the Olist files: streamed, checked by column, money exact, instants in UTC.

The dataset's times carry no zone; they are taken as UTC, so that its calendar days stay what they are.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from core.errors import Invalid
from core.money import MalformedAmount, Money

CURRENCY = "BRL"
SUBSET = "verified_subset"
_LONGEST_CELL = 1_000_000
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "orders": (
        "order_id", "customer_id", "order_status", "order_purchase_timestamp", "order_approved_at",
        "order_delivered_carrier_date", "order_delivered_customer_date", "order_estimated_delivery_date",
    ),
    "order_items": (
        "order_id", "order_item_id", "product_id", "seller_id", "shipping_limit_date", "price",
        "freight_value",
    ),
    "customers": (
        "customer_id", "customer_unique_id", "customer_zip_code_prefix", "customer_city", "customer_state",
    ),
    "order_payments": (
        "order_id", "payment_sequential", "payment_type", "payment_installments", "payment_value",
    ),
    "order_reviews": ("review_id", "order_id", "review_score"),
    "sellers": ("seller_id", "seller_zip_code_prefix", "seller_city", "seller_state"),
    "products": ("product_id", "product_category_name", "product_weight_g"),
    "categories": ("product_category_name", "product_category_name_english"),
}  # fmt: skip
COUNTED = ("orders", "order_items", "customers", "order_payments", "order_reviews")
"""The files whose rows the report names."""


class ReplayInputMissing(Invalid):
    code = "REPLAY_INPUT_MISSING"


class ReplayInputMalformed(Invalid):
    """``file`` and ``row`` (the header is row 1) say where."""

    code = "REPLAY_INPUT_MALFORMED"

    def __init__(self, file: Path, row: int, problem: str) -> None:
        super().__init__(f"{file.name}, row {row}: {problem}")
        self.file, self.row = file.name, row


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    product: str
    seller: str
    limit: datetime
    price_minor: int
    freight_minor: int


@dataclass(frozen=True, slots=True)
class Paid:
    sequence: int
    kind: str
    instalments: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Customer:
    unique: str
    zip_prefix: str
    city: str
    state: str


@dataclass(frozen=True, slots=True)
class Seller:
    zip_prefix: str
    city: str
    state: str


@dataclass(frozen=True, slots=True)
class Product:
    """``category`` is English where the translation knows it, else as it stands; empty when there is none."""

    category: str
    translated: bool
    weight_g: int


@dataclass(frozen=True, slots=True)
class SourceOrder:
    reference: str
    status: str
    purchased_at: datetime
    approved_at: datetime | None
    carrier_at: datetime | None
    delivered_at: datetime | None
    promised_at: datetime | None
    customer: Customer
    items: Sequence[Item]
    payments: Sequence[Paid]


@dataclass(slots=True)
class Source:
    """Everything read, orders by purchase time. ``rows`` counts what was read of each file."""

    orders: list[SourceOrder]
    sellers: Mapping[str, Seller]
    products: Mapping[str, Product]
    rows: Mapping[str, int]
    digest: str


@dataclass(slots=True)
class _Reader:
    """Rows of one file; ``wanted`` keeps those of some orders only."""

    directory: Path
    rows: Counter[str] = field(default_factory=Counter)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(
        self, name: str, *, wanted: frozenset[str] | None = None, by: str = "order_id"
    ) -> Iterator[tuple[Path, int, dict[str, str]]]:
        path = _find(self.directory, name)
        self.digest.update(path.read_bytes())
        csv.field_size_limit(_LONGEST_CELL)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in _COLUMNS[name] if column not in (reader.fieldnames or ())]
            if missing:
                raise ReplayInputMalformed(path, 1, f"no column {', '.join(missing)}")
            try:
                for number, row in enumerate(reader, start=2):
                    if None in row or None in row.values():
                        raise ReplayInputMalformed(path, number, "a wrong number of cells")
                    if wanted is None or row[by] in wanted:
                        self.rows[name] += 1
                        yield path, number, row
            except (csv.Error, UnicodeDecodeError) as error:
                raise ReplayInputMalformed(path, reader.line_num, str(error)) from error


def read_source(directory: Path, *, limit: int | None = None) -> Source:
    """Read the dataset, or the first ``limit`` orders by purchase time and what belongs to them.

    Raises ``ReplayInputMissing`` and ``ReplayInputMalformed``.
    """
    reader = _Reader(directory)
    heads = list(reader.read("orders"))
    heads.sort(key=lambda head: (head[2]["order_purchase_timestamp"], head[2]["order_id"]))
    if limit is not None:
        heads = heads[:limit]
        reader.rows["orders"] = len(heads)
    ids = frozenset(row["order_id"] for _, _, row in heads)
    if len(ids) < len(heads):
        raise ReplayInputMalformed(heads[0][0], 0, "an order comes twice")
    kept = ids if limit is not None else None
    items = _items(reader.read("order_items", wanted=kept))
    payments = _payments(reader.read("order_payments", wanted=kept))
    people = frozenset(row["customer_id"] for _, _, row in heads) if limit is not None else None
    customers = _customers(reader.read("customers", wanted=people, by="customer_id"))
    for _ in reader.read("order_reviews", wanted=kept):
        pass
    orders = [_order(*head, customers, items, payments) for head in heads]
    sold = [item for order in orders for item in order.items]
    sellers = _sellers(reader, {item.seller for item in sold})
    products = _products(reader, {item.product for item in sold})
    reader.digest.update(f"limit {limit}".encode())
    return Source(orders, sellers, products, dict(reader.rows), reader.digest.hexdigest())


def _find(directory: Path, name: str) -> Path:
    """A file beside the others, in ``verified_subset`` below them, or above when that was given."""
    names = {
        "categories": "product_category_name_translation.csv",
        **{table: f"olist_{table}_dataset.csv" for table in _COLUMNS if table != "categories"},
    }
    for place in (directory / SUBSET, directory, directory.parent):
        if (path := place / names[name]).is_file():
            return path
    raise ReplayInputMissing(f"no {names[name]} in {directory} or its {SUBSET}")


def _order(
    path: Path,
    number: int,
    row: Mapping[str, str],
    customers: Mapping[str, Customer],
    items: Mapping[str, list[Item]],
    payments: Mapping[str, list[Paid]],
) -> SourceOrder:
    reference = row["order_id"]
    customer = customers.get(row["customer_id"])
    if customer is None:
        raise ReplayInputMalformed(path, number, f"no customer {row['customer_id'][:40]!r}")
    purchased = _instant(path, number, row["order_purchase_timestamp"])
    if purchased is None:
        raise ReplayInputMalformed(path, number, "no order_purchase_timestamp")
    return SourceOrder(
        reference, row["order_status"], purchased,
        _instant(path, number, row["order_approved_at"]),
        _instant(path, number, row["order_delivered_carrier_date"]),
        _instant(path, number, row["order_delivered_customer_date"]),
        _instant(path, number, row["order_estimated_delivery_date"]),
        customer, sorted(items.get(reference, ()), key=lambda i: i.number),
        sorted(payments.get(reference, ()), key=lambda p: p.sequence),
    )  # fmt: skip


_Rows = Iterable[tuple[Path, int, dict[str, str]]]


def _items(rows: _Rows) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = defaultdict(list)
    for path, number, row in rows:
        limit = _instant(path, number, row["shipping_limit_date"])
        if limit is None:
            raise ReplayInputMalformed(path, number, "no shipping_limit_date")
        found[row["order_id"]].append(
            Item(
                _count(path, number, row["order_item_id"]), row["product_id"], row["seller_id"], limit,
                _minor(path, number, row["price"]), _minor(path, number, row["freight_value"]),
            )
        )  # fmt: skip
    return found


def _payments(rows: _Rows) -> dict[str, list[Paid]]:
    found: dict[str, list[Paid]] = defaultdict(list)
    for path, number, row in rows:
        found[row["order_id"]].append(
            Paid(
                _count(path, number, row["payment_sequential"]), row["payment_type"],
                _count(path, number, row["payment_installments"]),
                _minor(path, number, row["payment_value"]),
            )
        )  # fmt: skip
    return found


def _customers(rows: _Rows) -> dict[str, Customer]:
    return {
        row["customer_id"]: Customer(
            row["customer_unique_id"], row["customer_zip_code_prefix"], row["customer_city"],
            row["customer_state"],
        )
        for _, _, row in rows
    }  # fmt: skip


def _sellers(reader: _Reader, wanted: set[str]) -> dict[str, Seller]:
    found = {
        row["seller_id"]: Seller(row["seller_zip_code_prefix"], row["seller_city"], row["seller_state"])
        for _, _, row in reader.read("sellers")
        if row["seller_id"] in wanted
    }
    if missing := wanted - found.keys():
        raise ReplayInputMalformed(_find(reader.directory, "sellers"), 0, f"no seller {min(missing)}")
    return found


def _products(reader: _Reader, wanted: set[str]) -> dict[str, Product]:
    english = {
        row["product_category_name"]: row["product_category_name_english"]
        for _, _, row in reader.read("categories")
    }
    found = {}
    for path, number, row in reader.read("products"):
        if row["product_id"] in wanted:
            category = row["product_category_name"]
            weight = _count(path, number, row["product_weight_g"]) if row["product_weight_g"] else 0
            found[row["product_id"]] = Product(
                english.get(category, category), not category or category in english, weight
            )
    if missing := wanted - found.keys():
        raise ReplayInputMalformed(_find(reader.directory, "products"), 0, f"no product {min(missing)}")
    return found


def _instant(path: Path, number: int, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise ReplayInputMalformed(path, number, f"{text[:40]!r} is no date and time") from error


def _minor(path: Path, number: int, text: str) -> int:
    try:
        amount = Money.parse(text, CURRENCY).amount_minor
    except MalformedAmount as error:
        raise ReplayInputMalformed(path, number, str(error)) from error
    if amount < 0:
        raise ReplayInputMalformed(path, number, f"{text[:40]!r} is below zero")
    return amount


def _count(path: Path, number: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ReplayInputMalformed(path, number, f"{text[:40]!r} is no whole number")
    return int(text)
